use serde::{Deserialize, Serialize};

/// Why a stage can't be seen, or not in full. As in `hookgate lost --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitCode {
    /// The guard is not attached, or handshakes are not counted.
    NoGuard,
    NoHistory,
    NoMessages,
    /// What leaves is not seen, or not all of it.
    AnswersElsewhere,
    /// Something before this machine rewrites sources.
    Snat,
    /// Connections come from a load balancer.
    Proxy,
    /// Clocks differ, or this machine's is not synchronised.
    Clock,
    /// Whether a number that is quiet is alone in that can't be told.
    OneNumber,
    /// Attempts were sampled.
    Sampled,
}
