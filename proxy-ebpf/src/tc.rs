//! What the tc programs are called. Of each there is one for interfaces with Ethernet, and one for
//! those whose frames begin with the IP header.

/// Filters what comes in, where XDP does not.
pub const INCOMING: [&str; 2] = ["incoming", "incoming_bare"];
/// Sees what leaves through guarded interfaces.
pub const ANSWERS: [&str; 2] = [crate::abi::ANSWERS, "answers_bare"];
