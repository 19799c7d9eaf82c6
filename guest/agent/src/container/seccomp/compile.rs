//! Makes a BPF program of a filter.
//!
//! The number of a call is looked up in a binary tree of ranges with the same outcome rather than in
//! a list: installing a filter makes the kernel run it once for each call there is, so a list of
//! some 400 comparisons costs ten times as much at every start of a process.
//!
//! Only instructions that the kernel's own evaluator of constant outcomes knows lead to an
//! unconditional action, so that allowed calls bypass the program altogether.

use libc::sock_filter;
use thiserror::Error;

use super::{
    policy::{Action, CallPolicy, Compare, Filter, Operator, Policy, Rule},
    tree,
};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Set in the numbers of x32 calls, which Debian's kernel does not serve.
const X32_BIT: u32 = 0x4000_0000;
const ENOSYS: u16 = 38;
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

// Offsets in struct seccomp_data.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
pub(super) const IF_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    #[error("seccomp profile makes a program of {0} instructions, more than {MAX_INSTRUCTIONS}")]
    TooLong(usize),
    #[error("seccomp profile has too many conditions for one system call")]
    TooManyConditions,
}

pub(super) type Code = Vec<sock_filter>;

pub fn compile(filter: &Filter) -> Result<Code, CompileError> {
    let native = tree(&filter.native)?;
    let i386 = match &filter.i386 {
        Some(policy) => tree(policy)?,
        None => vec![ret(Action::KillProcess)],
    };
    let mut code = vec![
        load(OFFSET_ARCH),
        // The native part follows at 5; the jumps over it may be longer than a conditional one can be.
        instruction(IF_EQUAL, 3, 0, AUDIT_ARCH_X86_64),
        instruction(IF_EQUAL, 1, 0, AUDIT_ARCH_I386),
        ret(Action::KillProcess),
        jump(native.len() + 3)?,
        load(OFFSET_NUMBER),
        instruction(IF_GREATER_OR_EQUAL, 0, 1, X32_BIT),
        ret(Action::Errno(ENOSYS)),
    ];
    code.extend(native);
    if filter.i386.is_some() {
        code.push(load(OFFSET_NUMBER));
    }
    code.extend(i386);
    if code.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong(code.len()));
    }
    Ok(code)
}

/// Call numbers from `start` up to the next range's start share the code.
pub(super) struct Range {
    pub start: u32,
    pub code: Code,
}

fn tree(policy: &Policy) -> Result<Code, CompileError> {
    tree::search(&ranges(policy)?)
}

fn ranges(policy: &Policy) -> Result<Vec<Range>, CompileError> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut next = 0;
    for (&number, call) in &policy.calls {
        if number > next {
            append(&mut ranges, next, vec![ret(policy.default)]);
        }
        append(&mut ranges, number, leaf(call, policy.default)?);
        next = number + 1;
    }
    // A program that finds a call missing takes an older one; one that is refused may give up.
    let newer = if policy.default.refuses() {
        Action::Errno(ENOSYS)
    } else {
        policy.default
    };
    append(&mut ranges, next, vec![ret(newer)]);
    Ok(ranges)
}

fn append(ranges: &mut Vec<Range>, start: u32, code: Code) {
    if ranges.last().is_none_or(|last| !same(&last.code, &code)) {
        ranges.push(Range { start, code });
    }
}

fn same(left: &[sock_filter], right: &[sock_filter]) -> bool {
    let parts = |it: &sock_filter| (it.code, it.jt, it.jf, it.k);
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| parts(left) == parts(right))
}

fn leaf(call: &CallPolicy, default: Action) -> Result<Code, CompileError> {
    let mut code = Vec::new();
    for rule in &call.rules {
        code.extend(conditional(rule)?);
    }
    code.push(ret(call.otherwise.unwrap_or(default)));
    Ok(code)
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum Target {
    /// The next instruction.
    Next,
    /// Behind this comparison: it holds.
    Holds,
    /// Behind the whole rule.
    Fails,
}

enum Step {
    Load(u32),
    And(u32),
    Test {
        code: u16,
        value: u32,
        yes: Target,
        no: Target,
    },
}

fn conditional(rule: &Rule) -> Result<Code, CompileError> {
    let blocks: Vec<Vec<Step>> = rule.compares.iter().map(steps).collect();
    let total: usize = blocks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for block in blocks {
        let end = code.len() + block.len();
        for step in block {
            let here = code.len() + 1;
            let distance = |target| match target {
                Target::Next => Ok(0),
                Target::Holds => u8::try_from(end - here),
                Target::Fails => u8::try_from(total - here),
            };
            code.push(match step {
                Step::Load(offset) => load(offset),
                Step::And(mask) => instruction(AND, 0, 0, mask),
                Step::Test { code, value, yes, no } => {
                    let jumps = (distance(yes), distance(no));
                    let (Ok(yes), Ok(no)) = jumps else {
                        return Err(CompileError::TooManyConditions);
                    };
                    instruction(code, yes, no, value)
                }
            });
        }
    }
    code.push(ret(rule.action));
    Ok(code)
}

fn steps(compare: &Compare) -> Vec<Step> {
    use Target::{Fails, Holds, Next};
    let low_at = OFFSET_ARGUMENTS + 8 * u32::from(compare.index);
    let (low, high) = (Step::Load(low_at), Step::Load(low_at + 4));
    let test = |code, value, yes, no| Step::Test { code, value, yes, no };
    match compare.operator {
        Operator::Equal(value) => vec![
            high,
            test(IF_EQUAL, upper(value), Next, Fails),
            low,
            test(IF_EQUAL, lower(value), Holds, Fails),
        ],
        Operator::NotEqual(value) => vec![
            high,
            test(IF_EQUAL, upper(value), Next, Holds),
            low,
            test(IF_EQUAL, lower(value), Fails, Holds),
        ],
        Operator::MaskedEqual { mask, value } => vec![
            high,
            Step::And(upper(mask)),
            test(IF_EQUAL, upper(value), Next, Fails),
            low,
            Step::And(lower(mask)),
            test(IF_EQUAL, lower(value), Holds, Fails),
        ],
        Operator::Greater(value) => ordered(high, low, value, IF_GREATER, Holds, Fails),
        Operator::GreaterOrEqual(value) => ordered(high, low, value, IF_GREATER_OR_EQUAL, Holds, Fails),
        Operator::LessOrEqual(value) => ordered(high, low, value, IF_GREATER, Fails, Holds),
        Operator::Less(value) => ordered(high, low, value, IF_GREATER_OR_EQUAL, Fails, Holds),
    }
}

/// Upper halves decide unless they are equal; then `code` decides on the lower halves.
fn ordered(high: Step, low: Step, value: u64, code: u16, above: Target, below: Target) -> Vec<Step> {
    vec![
        high,
        Step::Test {
            code: IF_GREATER,
            value: upper(value),
            yes: above,
            no: Target::Next,
        },
        Step::Test {
            code: IF_EQUAL,
            value: upper(value),
            yes: Target::Next,
            no: below,
        },
        low,
        Step::Test {
            code,
            value: lower(value),
            yes: above,
            no: below,
        },
    ]
}

#[allow(clippy::cast_possible_truncation)] // the point of it
fn lower(value: u64) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation)] // the upper half fits
fn upper(value: u64) -> u32 {
    (value >> 32) as u32
}

pub(super) fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(LOAD, 0, 0, offset)
}

fn ret(action: Action) -> sock_filter {
    instruction(RETURN, 0, 0, action.value())
}

pub(super) fn jump(distance: usize) -> Result<sock_filter, CompileError> {
    let distance = u32::try_from(distance).map_err(|_| CompileError::TooLong(distance))?;
    Ok(instruction(JUMP, 0, 0, distance))
}

#[cfg(test)]
pub mod interpreter {
    //! The part of classic BPF that filters use, for tests.

    #![allow(clippy::cast_possible_truncation)]

    use super::{AND, IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, JUMP, LOAD, RETURN};
    use libc::sock_filter;

    pub const X86_64: u32 = super::AUDIT_ARCH_X86_64;
    pub const I386: u32 = super::AUDIT_ARCH_I386;

    pub fn run(code: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0u32; 16];
        data[0] = number;
        data[1] = arch;
        for (index, argument) in arguments.iter().enumerate() {
            data[4 + 2 * index] = *argument as u32;
            data[5 + 2 * index] = (*argument >> 32) as u32;
        }
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let it = code[at];
            at += 1;
            let branch = |taken: bool| usize::from(if taken { it.jt } else { it.jf });
            match it.code {
                LOAD => accumulator = data[it.k as usize / 4],
                AND => accumulator &= it.k,
                JUMP => at += it.k as usize,
                IF_EQUAL => at += branch(accumulator == it.k),
                IF_GREATER => at += branch(accumulator > it.k),
                IF_GREATER_OR_EQUAL => at += branch(accumulator >= it.k),
                RETURN => return it.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    // Test data is made to fit.
    #![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

    use std::collections::BTreeMap;

    use super::{
        interpreter::{I386, X86_64, run},
        *,
    };
    use crate::container::{
        capabilities::{Capability, CapabilitySet},
        seccomp::{default::default_filter, syscalls::numbers},
    };

    const EPERM: u32 = 0x0005_0001;
    const MISSING: u32 = 0x0005_0026;
    const ALLOWED: u32 = 0x7fff_0000;

    /// Straight from the definition of a policy.
    fn expected(policy: &Policy, number: u32, arguments: [u64; 6]) -> u32 {
        let newest = policy.calls.keys().max().copied().unwrap_or(0);
        let action = match policy.calls.get(&number) {
            None if number > newest && policy.default.refuses() => Action::Errno(38),
            None => policy.default,
            Some(call) => call
                .rules
                .iter()
                .find(|rule| rule.compares.iter().all(|it| holds(it, arguments)))
                .map(|rule| rule.action)
                .or(call.otherwise)
                .unwrap_or(policy.default),
        };
        action.value()
    }

    fn holds(compare: &Compare, arguments: [u64; 6]) -> bool {
        let argument = arguments[usize::from(compare.index)];
        match compare.operator {
            Operator::Equal(value) => argument == value,
            Operator::NotEqual(value) => argument != value,
            Operator::Less(value) => argument < value,
            Operator::LessOrEqual(value) => argument <= value,
            Operator::Greater(value) => argument > value,
            Operator::GreaterOrEqual(value) => argument >= value,
            Operator::MaskedEqual { mask, value } => argument & mask == value,
        }
    }

    const SAMPLES: [u64; 12] = [
        0,
        1,
        8,
        9,
        39,
        40,
        41,
        0x2_0008,
        0x1000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        u64::MAX,
    ];

    #[test]
    fn the_default_profile_decides_as_defined_for_every_call() {
        for bounding in [CapabilitySet::default(), CapabilitySet::from(Capability::SYS_ADMIN)] {
            let filter = default_filter(bounding);
            let code = compile(&filter).unwrap();
            assert!(code.len() < 300, "{} instructions", code.len());
            for number in 0..600 {
                for argument in SAMPLES {
                    let arguments = [argument, 0, 0, 0, 0, 0];
                    assert_eq!(
                        run(&code, X86_64, number, arguments),
                        expected(&filter.native, number, arguments)
                    );
                    let i386 = filter.i386.as_ref().unwrap();
                    assert_eq!(run(&code, I386, number, arguments), expected(i386, number, arguments));
                }
            }
        }
    }

    #[test]
    fn the_default_profile_knows_its_special_cases() {
        let plain = compile(&default_filter(CapabilitySet::default())).unwrap();
        let admin = compile(&default_filter(CapabilitySet::from(Capability::SYS_ADMIN))).unwrap();
        let native = |name: &str| u32::from(numbers(name).unwrap().0.unwrap());
        let ask =
            |code: &[sock_filter], name: &str, first: u64| run(code, X86_64, native(name), [first, 0, 0, 0, 0, 0]);
        assert_eq!(ask(&plain, "read", 0), ALLOWED);
        assert_eq!(ask(&plain, "mount", 0), EPERM);
        assert_eq!(ask(&admin, "mount", 0), ALLOWED);
        assert_eq!(ask(&plain, "socket", 2), ALLOWED);
        assert_eq!(ask(&plain, "socket", 40), EPERM);
        assert_eq!(ask(&plain, "clone", 0x0120_0011), ALLOWED);
        assert_eq!(ask(&plain, "clone", 0x1000_0000), EPERM);
        assert_eq!(ask(&admin, "clone", 0x1000_0000), ALLOWED);
        assert_eq!(ask(&plain, "clone3", 0), MISSING);
        assert_eq!(ask(&admin, "clone3", 0), ALLOWED);
        assert_eq!(ask(&plain, "personality", 8), ALLOWED);
        assert_eq!(ask(&plain, "personality", 0x0400_0000), EPERM);
        assert_eq!(run(&plain, X86_64, 599, [0; 6]), MISSING);
        assert_eq!(run(&plain, X86_64, 0x4000_0001, [0; 6]), MISSING);
        assert_eq!(run(&plain, 0xc000_00b7, 0, [0; 6]), 0x8000_0000);
    }

    #[test]
    fn conditions_hold_for_both_halves_of_an_argument() {
        let values = [0, 5, 0xffff_ffff, 0x1_0000_0000, 0x5_0000_0005, u64::MAX];
        let operators = values.iter().flat_map(|&value| {
            [
                Operator::Equal(value),
                Operator::NotEqual(value),
                Operator::Less(value),
                Operator::LessOrEqual(value),
                Operator::Greater(value),
                Operator::GreaterOrEqual(value),
                Operator::MaskedEqual {
                    mask: value,
                    value: value & 0x5_0000_0004,
                },
            ]
        });
        for (number, operator) in operators.enumerate() {
            let second = Compare {
                index: 5,
                operator: Operator::LessOrEqual(7),
            };
            let compares = vec![Compare { index: 2, operator }, second];
            let call = CallPolicy {
                rules: vec![Rule {
                    compares,
                    action: Action::Trap,
                }],
                otherwise: (number % 2 == 0).then_some(Action::Log),
            };
            let policy = Policy {
                default: Action::Errno(13),
                calls: BTreeMap::from([(number as u32, call)]),
            };
            let code = compile(&Filter {
                native: policy.clone(),
                i386: None,
                flags: 0,
            })
            .unwrap();
            for argument in values
                .iter()
                .flat_map(|&value| [value.wrapping_sub(1), value, value.wrapping_add(1)])
            {
                for last in [7, 8] {
                    let arguments = [0, 0, argument, 0, 0, last];
                    let found = run(&code, X86_64, number as u32, arguments);
                    assert_eq!(
                        found,
                        expected(&policy, number as u32, arguments),
                        "{operator:?} {argument:#x}"
                    );
                }
            }
            assert_eq!(run(&code, I386, 0, [0; 6]), 0x8000_0000);
        }
    }

    #[test]
    fn a_large_sparse_profile_jumps_far() {
        let calls = (0..450).map(|it| (it, CallPolicy::always(Action::Errno((it % 2) as u16 + 1))));
        let policy = Policy {
            default: Action::Allow,
            calls: calls.collect(),
        };
        let code = compile(&Filter {
            native: policy.clone(),
            i386: Some(policy.clone()),
            flags: 0,
        })
        .unwrap();
        for number in 0..600 {
            assert_eq!(run(&code, X86_64, number, [0; 6]), expected(&policy, number, [0; 6]));
            assert_eq!(run(&code, I386, number, [0; 6]), expected(&policy, number, [0; 6]));
        }
    }
}
