//! Paths of requests: checked, and without `.`, `..` and doubled slashes.

/// `PATH_MAX`, with the null at the end.
const MAX_PATH_BYTES: usize = 4096;

/// The shortest path that means the same where no symbolic links are; None for what is not an
/// absolute path that the kernel would take.
pub fn clean(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.len() >= MAX_PATH_BYTES || path.contains('\0') {
        return None;
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    Some(format!("/{}", names.join("/")))
}

/// Whether `path` is `folder` or below it; both clean.
pub fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Folder and name of a clean path that is not the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    let folder = if folder.is_empty() { "/" } else { folder };
    (!name.is_empty()).then_some((folder, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_clean() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("/..", "/"),
            ("/...", "/..."),
        ] {
            assert_eq!(clean(path).as_deref(), Some(expected), "{path}");
        }
        for bad in ["", "a", "./a", "/a\0b"] {
            assert_eq!(clean(bad), None);
        }
        assert_eq!(clean(&format!("/{}", "a".repeat(4095))), None);
    }

    #[test]
    fn being_within_goes_by_components() {
        assert!(is_within("/proc", "/proc"));
        assert!(is_within("/proc/sys", "/proc"));
        assert!(!is_within("/process", "/proc"));
    }

    #[test]
    fn folder_and_name() {
        assert_eq!(split("/dev/fuse"), Some(("/dev", "fuse")));
        assert_eq!(split("/fuse"), Some(("/", "fuse")));
        assert_eq!(split("/"), None);
    }
}
