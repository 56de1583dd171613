//! Entropy under control: the one place where unsafe code is allowed.
//!
//! kube-runtime schedules through hash maps with random state, and random state comes from the operating system. On Linux
//! the standard library and the `getrandom` crate (from 0.3) ask the C library's `getrandom`; this binary brings its own,
//! which follows from the seed of the thread that asks. Older versions of that crate, which the cryptography library
//! uses, make the system call through the C library's `syscall`; there is one here too, which passes everything else on.
//! Keys must follow from the seed as well: a signature's length varies, and with it what is stored where. macOS asks
//! elsewhere: replay is a facility of Linux, and with clusters' keys of Linux on x86-64.
#![allow(unsafe_code)]
#![cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nobody asks for the entropy there"))]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// What threads without a seed get: distinct, and never used where an outcome depends on it.
static UNSEEDED: AtomicU64 = AtomicU64::new(0x5eed);

/// From now on this thread's entropy follows from `seed`. Only useful first thing in a fresh thread: the standard library
/// keeps the keys it has once drawn.
pub fn seed_thread(seed: u64) {
    STATE.set(Some(seed));
    fastrand::seed(seed);
}

fn next() -> u64 {
    match STATE.get() {
        Some(state) => {
            let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            STATE.set(Some(state));
            mixed(state)
        }
        None => mixed(UNSEEDED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)),
    }
}

/// splitmix64's output function.
fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// # Safety
/// As the C library's: `buffer` has room for `length` bytes.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller promises `length` writable bytes at `buffer`, as for the C library's function.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    length.cast_signed()
}

/// The number of `getrandom` on x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const GETRANDOM: i64 = 318;

/// # Safety
/// As the C library's: number and arguments make up a valid system call.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> i64 {
    unsafe extern "C" {
        fn __errno_location() -> *mut i32;
    }
    if number == GETRANDOM {
        // SAFETY: the caller promises that `a` leads to `b` writable bytes.
        return unsafe { getrandom(a as *mut u8, b, 0) } as i64;
    }
    let result: i64;
    // SAFETY: the kernel's calling convention; what the call does is the caller's to answer for.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) {
        // SAFETY: the C library's own place for this thread's error number.
        unsafe { *__errno_location() = i32::try_from(-result).unwrap_or_default() };
        return -1;
    }
    result
}
