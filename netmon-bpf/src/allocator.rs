//! The memory allocator of a program that observes for days.

/// Has all threads share one heap, and what is freed go back to the kernel. For the first lines of a program's `main`: a
/// library must not decide this for others. It does nothing where the C library is not glibc.
///
/// Of its own accord glibc gives each thread that allocates a heap, up to eight for each CPU. Records are taken by whichever
/// thread answers a question, so that what is remembered of the past would lie among the remains of answers in all of them,
/// none could shrink, and a recorder of 8 MiB would take 60. Of the one heap only the end goes back by itself: see
/// [`give_back`].
pub fn use_one_heap() {
    #[cfg(target_env = "gnu")]
    {
        /// What is larger is mapped on its own, and returned when it is freed. Where nothing is said, glibc raises this to
        /// the largest that was ever freed, 32 MiB at most, and keeps twice as much of the heap.
        const LARGE: libc::c_int = 1 << 20;
        for (parameter, value) in
            [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
        {
            // SAFETY: mallopt takes its own lock, and changes how memory is allocated from now on; what was allocated
            // before is freed to where it came from.
            let set = unsafe { libc::mallopt(parameter, value) };
            if set == 0 {
                tracing::warn!("the memory allocator does not take {value} for its parameter {parameter}");
            }
        }
    }
}

/// Gives back to the kernel what was freed, wherever in the heap it is: what was remembered while a large answer was computed
/// may lie behind it. Takes some milliseconds, for which nobody else can allocate. It does nothing where the C library is not
/// glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim takes the allocator's own locks, and touches pages only in which nothing is allocated.
        unsafe { libc::malloc_trim(0) };
    }
}
