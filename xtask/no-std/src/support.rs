//! What std and libc would have brought: memory functions, a heap, a panic handler, and names that alloc expects.

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

const HEAP_BYTES: usize = 1 << 20;

#[repr(align(4096))]
struct Bytes(#[expect(dead_code, reason = "reached through a pointer")] [u8; HEAP_BYTES]);

static mut HEAP: Bytes = Bytes([0; HEAP_BYTES]);

/// A heap that only grows.
struct Bump {
    used: AtomicUsize,
}

#[global_allocator]
static BUMP: Bump = Bump { used: AtomicUsize::new(0) };

// SAFETY:
// 1. A block lies inside `HEAP`, aligned as asked, and is handed out once: `used` only grows.
// 2. Nothing else names `HEAP`.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = |used: usize| used.next_multiple_of(layout.align().min(4096));
        let take = |used: usize| place(used).checked_add(layout.size()).filter(|&end| end <= HEAP_BYTES);
        // Relaxed: the number alone decides who owns a block, and no memory is published by it.
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(used) => (&raw mut HEAP).cast::<u8>().wrapping_add(place(used)),
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}

/// Nothing to do and nobody to tell.
pub fn stop() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    stop()
}

/// alloc was built to unwind; this program aborts, so nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    stop()
}

/// Copies bytes upward, one at a time, through volatile accesses that no compiler turns into a call of itself.
///
/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: the caller lends `len` bytes at `from`.
        let byte = unsafe { from.wrapping_add(at).read_volatile() };
        // SAFETY: the caller lends `len` bytes at `to`.
        unsafe { to.wrapping_add(at).write_volatile(byte) };
    }
    to
}

/// Copies bytes that may overlap.
///
/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: the caller's contract is that of `memcpy`, which copies upward: right where `to` is not above.
        return unsafe { memcpy(to, from, len) };
    }
    for at in (0..len).rev() {
        // SAFETY: the caller lends `len` bytes at `from`.
        let byte = unsafe { from.wrapping_add(at).read_volatile() };
        // SAFETY: the caller lends `len` bytes at `to`.
        unsafe { to.wrapping_add(at).write_volatile(byte) };
    }
    to
}

/// Fills bytes.
///
/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: the caller lends `len` bytes at `to`.
        unsafe { to.wrapping_add(at).write_volatile(byte as u8) };
    }
    to
}

/// Compares bytes.
///
/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller lends `len` bytes at `a`.
        let left = unsafe { a.wrapping_add(at).read_volatile() };
        // SAFETY: the caller lends `len` bytes at `b`.
        let right = unsafe { b.wrapping_add(at).read_volatile() };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// Compares bytes for equality.
///
/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, len) }
}

/// Length of a string that ends with a zero byte.
///
/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller promises a zero byte at the end, and no byte behind it is read.
    while unsafe { text.wrapping_add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}
