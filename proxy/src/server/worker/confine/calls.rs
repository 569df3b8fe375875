//! The system calls that serving takes, and with which arguments.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use rustix::process::getpid;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// What a worker does all day, and what ends it.
const ALLOWED: &[i64] = &[
    // Descriptors that it has.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets. The supervisor binds and listens.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, signals, and the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

/// The same where the kernel has both an old and a new one.
#[cfg(target_arch = "x86_64")]
const ALLOWED_TOO: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_TOO: &[i64] = &[];

/// Leaves this thread, and those that it will start, the calls that serving takes.
///
/// Errors: the kernel has no seccomp, or refuses the filter.
pub(super) fn restrict() -> Result<(), Error> {
    // Its flags are in memory, where no filter sees them; the C library then does with `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(unknown, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.extend(ALLOWED.iter().chain(ALLOWED_TOO).map(|call| (*call, Vec::new())));
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![rule(0, Qword, MaskedEq(thread), thread)?]);
    rules.insert(libc::SYS_socket, internet_sockets()?);
    // The runtime's own, through which signals come. A datagram socket could be connected anew, to
    // any that is there.
    let stream = [only(0, Dword, Eq, number(libc::AF_UNIX))?, socket_type(libc::SOCK_STREAM)?];
    rules.insert(libc::SYS_socketpair, vec![SeccompRule::new(stream.to_vec())?]);
    rules.insert(libc::SYS_prctl, vec![rule(0, Dword, Eq, number(libc::PR_SET_NAME))?]);
    // Threads of this process alone: its user may have others.
    rules.insert(libc::SYS_tgkill, vec![rule(0, Dword, Eq, number(getpid().as_raw_nonzero().get()))?]);
    // Whether to wait, how much there is to read, and what the peer has not acknowledged.
    let requests = [libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ];
    let requests = requests.map(|request| rule(1, Dword, Eq, request));
    rules.insert(libc::SYS_ioctl, requests.into_iter().collect::<Result<_, _>>()?);
    let executable = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(2, Dword, MaskedEq(executable), 0)?]);
    }
    // That of the two filters holds which refuses.
    rules.insert(libc::SYS_clone3, Vec::new());
    apply(rules, SeccompAction::Errno(errno(libc::EPERM)), SeccompAction::Allow)
}

/// TCP and UDP over IPv4 and IPv6. Others would load modules into the kernel, and Landlock takes
/// none of them for TCP.
fn internet_sockets() -> Result<Vec<SeccompRule>, Error> {
    let kinds = [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in kinds {
            // 0: the only one that this type has.
            for protocol in [0, protocol] {
                rules.push(SeccompRule::new(vec![
                    only(0, Dword, Eq, number(family))?,
                    socket_type(kind)?,
                    only(2, Dword, Eq, number(protocol))?,
                ])?);
            }
        }
    }
    Ok(rules)
}

/// A socket's type, with or without the flags that stand beside it.
fn socket_type(kind: i32) -> Result<SeccompCondition, Error> {
    let flags = number(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    only(1, Dword, MaskedEq(u64::from(u32::MAX) & !flags), number(kind))
}

fn rule(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![only(argument, length, operator, value)?])?)
}

fn only(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, length, operator, value)?)
}

fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    these: SeccompAction,
) -> Result<(), Error> {
    let arch = ARCH.try_into().map_err(Error::Backend)?;
    let filter = SeccompFilter::new(rules, otherwise, these, arch).map_err(Error::Backend)?;
    let program: BpfProgram = filter.try_into().map_err(Error::Backend)?;
    apply_filter(&program)
}

/// Constants of the C library, none of which is negative.
fn number(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

fn errno(constant: i32) -> u32 {
    constant.unsigned_abs()
}
