use std::io;

/// Leaves it to the end of the input to end the program: a service manager may send these to all processes of the
/// service, and the daemon still has networks to see to before it ends. Handled and not ignored, because programs that
/// are started would go on ignoring them.
pub fn leave_end_to_input() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler touches nothing; calls that it interrupts are restarted.
        if unsafe { libc::signal(signal, handler) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
