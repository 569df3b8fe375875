/// Why a configuration is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For `hookgate check`: a running hookgate may hold what the configuration names.
    Check,
    /// For a start.
    Start {
        /// The sockets come from the process that holds the ports.
        inherits_sockets: bool,
    },
}
