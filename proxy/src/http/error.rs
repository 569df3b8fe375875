/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.x; the text says in which way.
    Malformed(&'static str),
    /// A well-formed version that is not spoken here.
    Version,
    TargetTooLong,
    TooLarge,
}
