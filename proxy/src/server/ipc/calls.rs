//! Every call that the worker may make: what it says, and what it is answered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::access::StateFile;
use crate::guard::{Detail, InterfaceState, KernelCounters, Stats};
use crate::observe::KernelTimes;
use crate::prefixes::{Network, PrefixState};
use crate::server::privileges::WorkerUser;

/// A call of the worker.
pub(in crate::server) trait Call: Into<Request> {
    type Reply: Serialize + DeserializeOwned;
}

/// The supervisor's side of a call.
pub(in crate::server) trait Serve<C: Call> {
    /// Errors: it is not allowed, or failed; the worker hears why.
    fn serve(&mut self, call: C) -> anyhow::Result<Served<C::Reply>>;
}

/// A reply, and the descriptor beside it.
pub(in crate::server) struct Served<R> {
    pub(in crate::server) reply: R,
    pub(in crate::server) descriptor: Option<OwnedFd>,
}

impl<R> Served<R> {
    pub(in crate::server) fn with(reply: R, descriptor: OwnedFd) -> Self {
        Self { reply, descriptor: Some(descriptor) }
    }
}

impl<R> From<R> for Served<R> {
    fn from(reply: R) -> Self {
        Self { reply, descriptor: None }
    }
}

impl Served<()> {
    pub(in crate::server) fn descriptor(descriptor: OwnedFd) -> Self {
        Self::with((), descriptor)
    }
}

/// Each line declares a call, what it carries, and its reply.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident $(($($field:ty),+))? => $reply:ty;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Serialize, Deserialize)]
            pub(in crate::server) struct $name $(($(pub(in crate::server) $field),+))?;

            impl Call for $name {
                type Reply = $reply;
            }

            impl From<$name> for Request {
                fn from(call: $name) -> Self {
                    Self::$name(call)
                }
            }
        )+

        /// Any call, as it is sent.
        #[derive(Debug, Serialize, Deserialize)]
        pub(in crate::server) enum Request {
            $($name($name),)+
        }

        /// Serves every call.
        pub(in crate::server) trait ServeAll: $(Serve<$name> +)+ Sized {}

        impl<S: $(Serve<$name> +)+> ServeAll for S {}

        impl Request {
            /// Serves the call and writes the reply as JSON.
            ///
            /// Errors: as [`Serve::serve`].
            pub(in crate::server) fn served_by(self, supervisor: &mut impl ServeAll) -> anyhow::Result<Served<Value>> {
                match self {
                    $(Self::$name(call) => {
                        let Served { reply, descriptor } = supervisor.serve(call)?;
                        Ok(Served { reply: serde_json::to_value(reply)?, descriptor })
                    })+
                }
            }
        }
    };
}

calls! {
    /// The first call. The worker's end of the channel of commands is beside the reply.
    Begin => Startup;
    /// The configuration in force, beside the reply as one JSON text.
    OpenConfiguration => ();
    /// Reads the configuration's files again. They are beside the reply, as one JSON text; what
    /// they name may be asked for from now on.
    ReadConfiguration => ();
    /// The configuration that was read last is in force: what only the one before named may not be
    /// asked for any more.
    ActivateConfiguration => ();
    /// A file that the configuration names.
    OpenFile(PathBuf) => ();
    /// The machine's root certificates, in a file that holds a list ([`super::write_list`]). The
    /// reply says what is wrong with them.
    ReadRoots => Option<String>;
    /// A socket that has this address, and does not listen yet.
    Bind(SocketAddr) => ();
    /// The socket for this address listens from now on.
    Listen(SocketAddr) => ();
    /// The command line's socket, which listens.
    OpenAdminSocket => ();
    /// Makes a state folder.
    PrepareState(PathBuf) => ();
    /// A file of a state folder, for reading alone; no descriptor: it does not exist.
    ReadState(PathBuf, StateFile) => ();
    /// Replaces a file of a state folder, with at most [`crate::access::MAX_STATE_BYTES`].
    ReplaceState(PathBuf, StateFile, Zeroizing<String>) => ();
    /// [`StateFile::Certificate`] of the folders beside a state folder, in a file that holds a list
    /// ([`super::write_list`]).
    ReadCertificatesBeside(PathBuf) => ();
    /// A lock on a state folder, held while the descriptor is open.
    LockState(PathBuf) => ();
    /// Puts in force what the configuration says of the guard. The map in which the proxy counts is
    /// beside the reply.
    StartGuard => AttachedGuard;
    /// Attaches the guard to configured interfaces that it is not on. A line for each change.
    AttachMissing => Vec<String>;
    /// The states of the configured interfaces.
    ReadInterfaces => Vec<InterfaceState>;
    /// What the guard has counted.
    ReadStats(Detail) => Option<Stats>;
    /// When the kernel saw the steps of a client's handshake.
    ReadHandshake(SocketAddr) => Option<KernelTimes>;
    /// The history's file. The reply says why it will be gone with the supervisor, if so.
    OpenHistory => Option<String>;
    /// Takes the history's file, which is damaged, out of the way; the next one is new. The reply
    /// says where it is.
    SetHistoryAside => PathBuf;
    /// The ledger's file. The reply says why it will be gone with the supervisor, if so, and
    /// whether another process may still write to it.
    OpenLedger => (Option<String>, bool);
    /// Takes the ledger's file, which is damaged, out of the way; the next one is new. The reply
    /// says where it is.
    SetLedgerAside => PathBuf;
    /// Removes the ledger that was set aside: the new one has all of it.
    RemoveLedgerAside => ();
    /// Whether the machine's clock is kept right.
    ReadClock => bool;
    /// The file in which POSTs under way are counted.
    ShareOpenPosts => OpenPostsSlots;
    /// What the kernel counts of all connections.
    ReadKernelCounters => KernelCounters;
    /// What the routing registry has of Meta's own: check it, put it in force, store it for the
    /// next start.
    ActivateRefresh(BTreeSet<Network>) => ActivePrefixes;
    /// Puts in force the prefixes of the state file.
    ActivateStored => ActivePrefixes;
    /// Reads the configured list of prefixes again and checks it.
    ReadPrefixList => PrefixState;
    /// Puts in force what [`ReadPrefixList`] has read.
    ActivatePrefixList => ActivePrefixes;
    /// Something that the supervisor has to know.
    Notify(WorkerEvent) => ();
}

/// What a worker begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct Startup {
    /// The supervisor's process id.
    pub(in crate::server) supervisor: u32,
    /// The user that the worker becomes; `None`: it keeps its own.
    pub(in crate::server) user: Option<WorkerUser>,
    /// The configuration's file.
    pub(in crate::server) file: PathBuf,
    /// Meta's prefixes.
    pub(in crate::server) standing: PrefixState,
    /// How often the service manager has to hear that all is well.
    pub(in crate::server) watchdog: Option<Duration>,
    /// How many workers this one follows that have crashed.
    pub(in crate::server) restarts: u64,
}

/// Who counts where in the file of POSTs under way.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct OpenPostsSlots {
    /// The worker's.
    pub(in crate::server) own: u16,
    /// Of processes that have ended, and of the workers before this one.
    pub(in crate::server) ended: Vec<u16>,
    /// Why the file is gone with the supervisor, if so.
    pub(in crate::server) without_disk: Option<String>,
}

/// What happens to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) enum WorkerEvent {
    /// It serves.
    Ready,
    /// It reads another configuration; [`WorkerEvent::Ready`] follows.
    Reloading,
    /// All of its threads run.
    Alive,
    /// It takes no new clients.
    Stopping,
}

/// The prefixes from now on, and where the guard, if it is there, counts for each.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct ActivePrefixes {
    pub(in crate::server) standing: PrefixState,
    pub(in crate::server) rows: Option<Vec<(Network, u32)>>,
}

/// The guard, and which of its counters belong to which prefix.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct AttachedGuard {
    pub(in crate::server) rows: Vec<(Network, u32)>,
    /// What it is attached to, for the log.
    pub(in crate::server) words: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_file_of_a_state_folder_can_be_asked_for() {
        let replace = |file: &str| {
            let text = format!(r#"{{"ReplaceState":["/state","{file}","text"]}}"#);
            serde_json::from_str::<Request>(&text)
        };
        for file in ["Certificate", "Account", "Attempts"] {
            assert!(replace(file).is_ok(), "{file}");
        }
        for file in ["account.json", "other", "../other", ""] {
            assert!(replace(file).is_err(), "{file}");
        }
    }
}
