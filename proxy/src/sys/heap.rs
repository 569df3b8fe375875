/// Gives the machine back what is free in the heap (malloc_trim(3)): what lay between freed memory
/// and the heap's end keeps it otherwise.
pub fn give_back_free_memory() {
    // SAFETY: it may be called at any time, from any thread, and touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
