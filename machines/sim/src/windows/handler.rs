//! The handler of memory faults of the process, in front of the one that was there.
//!
//! # Invariants
//! 1. It is installed once, when the first machine asks for windows, and stays.
//! 2. What ran before is known before ours is installed, and gets every fault that no window serves: outside windows
//!    as it came, inside after the line on standard error. Rust's own handler tells stack overflows from others and
//!    lets the rest die by the signal; so does the default.
//! 3. In the handler nothing is allocated; the only lock is a window's spin lock, whose holder touches no window.
//! 4. `errno` is what it was when an access runs again.
//!
//! The handler runs on the thread's alternate stack where there is one, so that an overflow of the stack reaches it.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;
use std::sync::OnceLock;

use super::cause;
use super::fault::{Line, WindowFault};
use super::registry;

/// What ran before ours (invariant 2).
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

thread_local! {
    /// Address and fill of this thread's last fault. Constant at first and without a destructor: no allocation, no
    /// registration, so the handler may use it.
    static NOTED: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
type Plain = extern "C" fn(c_int);

/// Installs the handler, the first time.
///
/// # Errors
/// The host's reason; nothing was changed.
pub(crate) fn install() -> Result<(), i32> {
    *INSTALLED.get_or_init(|| {
        let previous = exchange(None)?;
        let _ = PREVIOUS.set(previous);
        exchange(Some(&ours())).map(|_| ())
    })
}

/// Ours, with every signal but memory faults held back: a fault in the handler itself must not hang.
fn ours() -> libc::sigaction {
    // SAFETY:
    // 1. All fields are numbers, or options of function pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_fault as WithInfo as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY:
    // 1. The set is ours.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY:
    // 1. As above.
    unsafe { libc::sigdelset(&raw mut action.sa_mask, libc::SIGSEGV) };
    action
}

/// Asks for the action of memory faults, and sets `new` if there is one.
fn exchange(new: Option<&libc::sigaction>) -> Result<libc::sigaction, i32> {
    // SAFETY:
    // 1. As in `ours`.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY:
    // 1. Both pointers are null or point to values of ours.
    // 2. A new action is `on_fault`, which keeps to what a handler may do (invariant 3), or what ran before.
    let done = unsafe { libc::sigaction(libc::SIGSEGV, new.map_or(ptr::null(), ptr::from_ref), &raw mut old) };
    if done == 0 { Ok(old) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)) }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY:
    // 1. The kernel passes a pointer to the signal's information, which lives as long as the handler runs.
    let facts = unsafe { &*info };
    // A code of zero or less: another process or `raise` sent the signal, no access faulted.
    if facts.si_code > 0 {
        // SAFETY:
        // 1. Memory faults of the CPU come with an address.
        let address = unsafe { facts.si_addr() }.addr();
        // SAFETY:
        // 1. `on_fault` is installed with SA_SIGINFO, and this is its third argument.
        let said = unsafe { cause::access(context) };
        let errno = Errno::save();
        let (at, fill) = NOTED.get();
        let noted = (at == address).then_some(fill);
        match registry::with(address, |region| region.serve(address, noted, said)) {
            Some(Ok(fill)) => {
                NOTED.set((address, fill));
                return errno.restore();
            }
            Some(Err(fault)) => print(&fault),
            None => {}
        }
    }
    pass_on(signal, info, context);
}

/// The thread's `errno`, kept over the handler.
struct Errno(c_int);

impl Errno {
    fn place() -> *mut c_int {
        // SAFETY:
        // 1. The function only answers where the thread's number stands.
        unsafe { libc::__errno_location() }
    }

    fn save() -> Self {
        // SAFETY:
        // 1. The place is the thread's own and always readable.
        Self(unsafe { Self::place().read() })
    }

    fn restore(self) {
        // SAFETY:
        // 1. The place is the thread's own and always writable.
        unsafe { Self::place().write(self.0) };
    }
}

/// One write; a line that standard error does not take is lost.
fn print(fault: &WindowFault) {
    let line = Line::of(fault);
    let bytes = line.bytes();
    // SAFETY:
    // 1. The bytes are borrowed for the call; `write` is allowed in handlers.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// Hands the signal to what ran before ours.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(previous) = PREVIOUS.get() else { return };
    match previous.sa_sigaction {
        // The access runs again and meets the old action.
        libc::SIG_DFL | libc::SIG_IGN => {
            let _ = exchange(Some(previous));
            // SAFETY:
            // 1. As in `on_fault`.
            let is_sent = unsafe { (*info).si_code } <= 0;
            if is_sent {
                // SAFETY:
                // 1. `raise` is allowed in handlers; a signal that was sent does not come again by itself.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY:
            // 1. Who installed the action promised by SA_SIGINFO that it is such a function.
            let handler = unsafe { mem::transmute::<usize, WithInfo>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY:
            // 1. Neither default nor ignored nor SA_SIGINFO: a function of the plain kind.
            let handler = unsafe { mem::transmute::<usize, Plain>(handler) };
            handler(signal);
        }
    }
}
