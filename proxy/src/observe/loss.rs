use super::{Cause, LostAt};
use crate::prefixes::CounterIndex;

/// What was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// Of the prefix that it came from.
    pub counter: CounterIndex,
    /// `None`: it was lost before that was known.
    pub upstream: Option<Box<str>>,
    pub lost_at: LostAt,
    pub cause: Cause,
}
