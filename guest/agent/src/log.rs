//! Lines on the serial console, which the host keeps as the guest's log.

/// Like `eprintln!`, but a console that cannot be written to is not an error.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        // Nowhere is left to report this failure to.
        let _ = std::io::stderr().write_all(format!("kelyfos-agent: {}\n", format_args!($($arg)*)).as_bytes());
    }};
}
