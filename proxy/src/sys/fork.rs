use std::io;

pub use nix::unistd::ForkResult;

/// fork(2), in a process of one thread alone.
///
/// Errors: there are more threads, or fork(2)'s.
pub fn fork() -> io::Result<ForkResult> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("{threads} threads run, and a fork would take along only one")));
    }
    // SAFETY: with one thread, no lock can be held by another, so that the child may do whatever
    // the parent may.
    Ok(unsafe { nix::unistd::fork() }?)
}
