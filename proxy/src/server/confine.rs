//! What the worker can still ask of the kernel: what serving takes. To be called before there is a second thread.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetError, RulesetStatus, Scope,
};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::observe::Log;

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
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
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
    libc::SYS_tgkill,
];

/// The same where the kernel has both an old and a new one.
#[cfg(target_arch = "x86_64")]
const ALLOWED_TOO: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_TOO: &[i64] = &[];

/// Confines this thread, and those that it starts, as far as the kernel can; says what it cannot do.
pub(super) fn confine(log: &Log) {
    match restrict_files() {
        Ok(RulesetStatus::NotEnforced) => {
            log.note("this kernel cannot keep the process that serves from files (Landlock, Linux 5.13)");
        }
        Ok(_) => {}
        Err(error) => {
            log.note(&format!("cannot keep the process that serves from files (Landlock): {error}"))
        }
    }
    if let Err(error) = restrict_calls() {
        log.note(&format!("cannot restrict the system calls of the process that serves (seccomp): {error}"));
    }
}

/// No file is named, so none can be opened; no TCP port can be taken, and nobody outside be signalled.
fn restrict_files() -> Result<RulesetStatus, RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?;
    Ok(ruleset.create()?.restrict_self()?.ruleset)
}

fn restrict_calls() -> Result<(), Error> {
    // Its flags lie in memory, where no filter sees them; the C library then does with `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(unknown, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.extend(ALLOWED.iter().chain(ALLOWED_TOO).map(|call| (*call, Vec::new())));
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![only(0, Qword, MaskedEq(thread), thread)?]);
    let families = [libc::AF_INET, libc::AF_INET6].map(|family| only(0, Dword, Eq, number(family)));
    rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
    // The runtime's own, through which signals come.
    rules.insert(libc::SYS_socketpair, vec![only(0, Dword, Eq, number(libc::AF_UNIX))?]);
    rules.insert(libc::SYS_prctl, vec![only(0, Dword, Eq, number(libc::PR_SET_NAME))?]);
    // Whether to wait, how much there is to read, and what the peer has not acknowledged.
    let requests = [libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ];
    let requests = requests.map(|request| only(1, Dword, Eq, request));
    rules.insert(libc::SYS_ioctl, requests.into_iter().collect::<Result<_, _>>()?);
    let executable = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![only(2, Dword, MaskedEq(executable), 0)?]);
    }
    // That of the two filters holds which refuses.
    rules.insert(libc::SYS_clone3, Vec::new());
    apply(rules, SeccompAction::Errno(errno(libc::EPERM)), SeccompAction::Allow)
}

fn only(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, length, operator, value).map_err(Error::Backend)?;
    SeccompRule::new(vec![condition]).map_err(Error::Backend)
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
