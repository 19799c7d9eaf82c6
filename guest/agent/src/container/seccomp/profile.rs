//! Profiles that a user brings: `linux.seccomp` of the OCI runtime specification
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>), and the
//! additions that the profiles shipped with container engines use: `archMap`, and `includes` and
//! `excludes` by capability and architecture.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    policy::{Action, CallPolicy, Compare, Filter, Operator, Policy, Rule},
    syscalls::numbers,
};
use crate::container::capabilities::{Capability, CapabilitySet};

/// Profiles in use have some 15 kB; this keeps a hostile one from filling the guest's memory.
const MAX_PROFILE_BYTES: usize = 1 << 20;
const EPERM: u16 = 1;
/// `SECCOMP_FILTER_FLAG_*` by name. TSYNC means nothing to a process with one thread.
const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
];

#[derive(Debug, Error)]
pub enum ProfileError {
    #[error("seccomp profile has {0} bytes, more than {MAX_PROFILE_BYTES}")]
    TooLarge(usize),
    #[error("seccomp profile is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("seccomp profile: {path} is {found}, expected {expected}")]
    Unexpected {
        path: String,
        found: String,
        expected: &'static str,
    },
    #[error("seccomp profile: {path}: {value:?} is not supported")]
    Unsupported { path: String, value: String },
    #[error("seccomp profile is for other architectures than x86-64")]
    OtherArchitecture,
}

pub fn parse(json: &[u8], bounding: CapabilitySet) -> Result<Filter, ProfileError> {
    if json.len() > MAX_PROFILE_BYTES {
        return Err(ProfileError::TooLarge(json.len()));
    }
    let root: Value = serde_json::from_slice(json)?;
    let root = Node {
        path: "profile".to_owned(),
        value: &root,
    };
    let root = root.object()?;
    let default_errno = root.optional("defaultErrnoRet").map(|it| it.errno()).transpose()?;
    let default = root.required("defaultAction")?.action(default_errno)?;
    let architectures = architectures(&root)?;
    if !architectures.native {
        return Err(ProfileError::OtherArchitecture);
    }
    let mut calls = BTreeMap::<String, CallPolicy>::new();
    for entry in root
        .optional("syscalls")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        add(&mut calls, &entry.object()?, default, bounding)?;
    }
    let mut flags = 0;
    for flag in root
        .optional("flags")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        let name = flag.text()?;
        let known = FLAGS
            .iter()
            .find(|known| known.0 == name)
            .ok_or_else(|| flag.unsupported(name))?;
        flags |= known.1;
    }
    Ok(Filter {
        native: policy(&calls, default, |it| it.0),
        i386: architectures.i386.then(|| policy(&calls, default, |it| it.1)),
        flags,
    })
}

struct Architectures {
    native: bool,
    i386: bool,
}

fn architectures(root: &Object) -> Result<Architectures, ProfileError> {
    let mut names = Vec::new();
    for name in root
        .optional("architectures")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        names.push(name.text()?.to_owned());
    }
    for entry in root
        .optional("archMap")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        let entry = entry.object()?;
        if entry.required("architecture")?.text()? == "SCMP_ARCH_X86_64" {
            names.push("SCMP_ARCH_X86_64".to_owned());
            for name in entry
                .optional("subArchitectures")
                .map(|it| it.list())
                .transpose()?
                .unwrap_or_default()
            {
                names.push(name.text()?.to_owned());
            }
        }
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    Ok(Architectures {
        native: names.is_empty() || has("SCMP_ARCH_X86_64"),
        i386: has("SCMP_ARCH_X86"),
    })
}

fn add(
    calls: &mut BTreeMap<String, CallPolicy>,
    entry: &Object,
    default: Action,
    bounding: CapabilitySet,
) -> Result<(), ProfileError> {
    let included = entry
        .optional("includes")
        .map(|it| matches(&it, bounding, true))
        .transpose()?
        .unwrap_or(true);
    let excluded = entry
        .optional("excludes")
        .map(|it| matches(&it, bounding, false))
        .transpose()?
        .unwrap_or(false);
    if !included || excluded {
        return Ok(());
    }
    let errno = entry.optional("errnoRet").map(|it| it.errno()).transpose()?;
    let action = entry.required("action")?.action(errno)?;
    let mut compares = Vec::new();
    for argument in entry
        .optional("args")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        compares.push(compare(&argument.object()?)?);
    }
    let mut names = Vec::new();
    if let Some(name) = entry.optional("name") {
        names.push(name.text()?.to_owned());
    }
    for name in entry
        .optional("names")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        names.push(name.text()?.to_owned());
    }
    if action == default {
        return Ok(());
    }
    for name in names {
        let call = calls.entry(name).or_default();
        if compares.is_empty() {
            call.otherwise.get_or_insert(action);
        } else {
            call.rules.push(Rule {
                compares: compares.clone(),
                action,
            });
        }
    }
    Ok(())
}

/// `includes` wants all that it lists, `excludes` any of it. Each kernel that runs here is newer
/// than any `minKernel`.
fn matches(node: &Node, bounding: CapabilitySet, all: bool) -> Result<bool, ProfileError> {
    let object = node.object()?;
    let mut found = Vec::new();
    for capability in object
        .optional("caps")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default()
    {
        found.push(Capability::parse(capability.text()?).is_ok_and(|it| bounding.contains(it)));
    }
    let arches = object
        .optional("arches")
        .map(|it| it.list())
        .transpose()?
        .unwrap_or_default();
    if !arches.is_empty() {
        let mut native = false;
        for arch in arches {
            native |= matches!(arch.text()?, "amd64" | "x86_64");
        }
        found.push(native);
    }
    Ok(if all {
        found.iter().all(|it| *it)
    } else {
        found.iter().any(|it| *it)
    })
}

fn compare(object: &Object) -> Result<Compare, ProfileError> {
    let index = object.required("index")?;
    let index = match index.number()? {
        it @ 0..=5 => u8::try_from(it).unwrap_or_default(),
        _ => return Err(index.unexpected("a number from 0 to 5")),
    };
    let value = object.required("value")?.number()?;
    let second = object
        .optional("valueTwo")
        .map(|it| it.number())
        .transpose()?
        .unwrap_or(0);
    let operator = object.required("op")?;
    let operator = match operator.text()? {
        "SCMP_CMP_EQ" => Operator::Equal(value),
        "SCMP_CMP_NE" => Operator::NotEqual(value),
        "SCMP_CMP_LT" => Operator::Less(value),
        "SCMP_CMP_LE" => Operator::LessOrEqual(value),
        "SCMP_CMP_GT" => Operator::Greater(value),
        "SCMP_CMP_GE" => Operator::GreaterOrEqual(value),
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual {
            mask: value,
            value: second,
        },
        other => return Err(operator.unsupported(other)),
    };
    Ok(Compare { index, operator })
}

type Numbers = (Option<u16>, Option<u16>);

/// Names of other architectures, and of calls newer than the table, are passed over.
fn policy(calls: &BTreeMap<String, CallPolicy>, default: Action, number: impl Fn(Numbers) -> Option<u16>) -> Policy {
    let known = calls
        .iter()
        .filter_map(|(name, call)| Some((u32::from(number(numbers(name)?)?), call.clone())));
    Policy {
        default,
        calls: known.collect(),
    }
}

/// A JSON value that knows where it is, for messages.
struct Node<'a> {
    path: String,
    value: &'a Value,
}

struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// None also for null.
    fn optional(&self, key: &str) -> Option<Node<'a>> {
        let value = self.map.get(key).filter(|value| !value.is_null());
        value.map(|value| Node {
            path: format!("{}.{key}", self.path),
            value,
        })
    }

    fn required(&self, key: &str) -> Result<Node<'a>, ProfileError> {
        self.optional(key).ok_or_else(|| ProfileError::Unexpected {
            path: format!("{}.{key}", self.path),
            found: "missing".to_owned(),
            expected: "a value",
        })
    }
}

impl<'a> Node<'a> {
    fn object(&self) -> Result<Object<'a>, ProfileError> {
        let map = self.value.as_object().ok_or_else(|| self.unexpected("an object"))?;
        Ok(Object {
            path: self.path.clone(),
            map,
        })
    }

    fn list(&self) -> Result<Vec<Node<'a>>, ProfileError> {
        let list = self.value.as_array().ok_or_else(|| self.unexpected("a list"))?;
        let nodes = list.iter().enumerate();
        Ok(nodes
            .map(|(index, value)| Node {
                path: format!("{}[{index}]", self.path),
                value,
            })
            .collect())
    }

    fn text(&self) -> Result<&'a str, ProfileError> {
        self.value.as_str().ok_or_else(|| self.unexpected("a string"))
    }

    fn number(&self) -> Result<u64, ProfileError> {
        self.value.as_u64().ok_or_else(|| self.unexpected("an unsigned number"))
    }

    fn errno(&self) -> Result<u16, ProfileError> {
        let errno = u16::try_from(self.number()?).ok().filter(|errno| *errno < 4096);
        errno.ok_or_else(|| self.unexpected("an error number"))
    }

    fn action(&self, errno: Option<u16>) -> Result<Action, ProfileError> {
        Ok(match self.text()? {
            "SCMP_ACT_ALLOW" => Action::Allow,
            "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
            "SCMP_ACT_TRAP" => Action::Trap,
            "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
            "SCMP_ACT_LOG" => Action::Log,
            other => return Err(self.unsupported(other)),
        })
    }

    fn unsupported(&self, value: &str) -> ProfileError {
        ProfileError::Unsupported {
            path: self.path.clone(),
            value: value.to_owned(),
        }
    }

    fn unexpected(&self, expected: &'static str) -> ProfileError {
        let found: String = self.value.to_string().chars().take(40).collect();
        ProfileError::Unexpected {
            path: self.path.clone(),
            found,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Filter, ProfileError> {
        parse(text.as_bytes(), CapabilitySet::default())
    }

    #[test]
    fn reads_actions_arguments_and_architectures() {
        let filter = parse_text(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                  {"names": ["read", "newer_than_all"], "action": "SCMP_ACT_ALLOW"},
                  {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                  {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                   "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
        )
        .unwrap();
        assert_eq!(filter.flags, 2);
        assert_eq!(filter.native.default, Action::Errno(13));
        assert_eq!(filter.native.calls[&0], CallPolicy::always(Action::Allow));
        assert_eq!(filter.native.calls[&83], CallPolicy::always(Action::Errno(28)));
        let masked = Operator::MaskedEqual {
            mask: 2_114_060_288,
            value: 0,
        };
        assert_eq!(
            filter.native.calls[&56].rules[0].compares,
            [Compare {
                index: 0,
                operator: masked
            }]
        );
        assert_eq!(filter.i386.unwrap().calls[&3], CallPolicy::always(Action::Allow));
    }

    #[test]
    fn includes_and_excludes_follow_capabilities() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["umount2"], "action": "SCMP_ACT_KILL", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}}]}"#;
        let plain = parse_text(text).unwrap().native.calls;
        assert_eq!(plain.keys().copied().collect::<Vec<_>>(), [166]);
        let admin = parse(text.as_bytes(), CapabilitySet::from(Capability::SYS_ADMIN))
            .unwrap()
            .native
            .calls;
        assert_eq!(admin.keys().copied().collect::<Vec<_>>(), [165]);
    }

    #[test]
    fn names_what_is_wrong() {
        let message = |text: &str| parse_text(text).unwrap_err().to_string();
        assert!(message("{").starts_with("seccomp profile is not JSON"));
        assert_eq!(message("[]"), "seccomp profile: profile is [], expected an object");
        assert_eq!(
            message("{}"),
            "seccomp profile: profile.defaultAction is missing, expected a value"
        );
        assert_eq!(
            message(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#),
            "seccomp profile: profile.defaultAction: \"SCMP_ACT_NOTIFY\" is not supported"
        );
        assert_eq!(
            message(
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
                    "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#
            ),
            "seccomp profile: profile.syscalls[0].args[0].index is 6, expected a number from 0 to 5"
        );
        assert_eq!(
            message(r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_AARCH64"]}"#),
            "seccomp profile is for other architectures than x86-64"
        );
    }
}
