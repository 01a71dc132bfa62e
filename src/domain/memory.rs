//! What the system's allocator is told of memory that is free. It decides nothing that a caller sees.
//!
//! glibc's keeps much: when a large buffer is freed, it raises the size from which it asks the system
//! for a buffer of its own, to 32 MiB, and what is smaller leaves holes in the heap; and what one
//! thread has freed waits for that thread.

/// The least that is large, bytes.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 4 << 20;

/// Lets large buffers go back to the system as soon as they are free, from now on. Call it before
/// there are threads.
pub fn return_large_buffers_early() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the standard library has no word for it")]
        // SAFETY: it sets two numbers of the allocator, under its own lock; a refusal changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE);
        }
    }
}

/// Gives back what is free now, after work that took much; it takes milliseconds.
pub fn return_free() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the standard library has no word for it")]
        // SAFETY: it releases pages that hold nothing, under the allocator's own locks.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
