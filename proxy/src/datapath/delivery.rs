//! When a request may be tried again: a promise to users, as one function.

/// Where the connection came from that a request was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Made for this request.
    Fresh,
    /// Used before, and idle since: the upstream may have closed it at the moment of sending.
    Pooled,
}

/// What of a request the kernel had accepted when the connection died, before a byte of the
/// response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Nothing,
    /// Some of the head, or all of it, and nothing of a body that follows.
    HeadBeforeBody,
    /// Some of the head, or all of it, of a request without a body.
    HeadWithoutBody,
    /// Something of the body.
    Body,
}

/// Whether a request whose connection died may be sent on another one. `idempotent`: RFC 9110
/// §9.2.2.
pub(super) fn may_try_again(origin: Origin, sent: Sent, idempotent: bool) -> bool {
    match (origin, sent) {
        (Origin::Fresh, _) => false,
        (Origin::Pooled, Sent::Nothing | Sent::HeadBeforeBody) => true,
        (Origin::Pooled, Sent::HeadWithoutBody) => idempotent,
        (Origin::Pooled, Sent::Body) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state() {
        use Origin::{Fresh, Pooled};
        use Sent::{Body, HeadBeforeBody, HeadWithoutBody, Nothing};
        for (origin, sent, idempotent, again) in [
            (Fresh, Nothing, false, false),
            (Fresh, Nothing, true, false),
            (Fresh, HeadBeforeBody, false, false),
            (Fresh, HeadBeforeBody, true, false),
            (Fresh, HeadWithoutBody, false, false),
            (Fresh, HeadWithoutBody, true, false),
            (Fresh, Body, false, false),
            (Fresh, Body, true, false),
            (Pooled, Nothing, false, true),
            (Pooled, Nothing, true, true),
            (Pooled, HeadBeforeBody, false, true),
            (Pooled, HeadBeforeBody, true, true),
            (Pooled, HeadWithoutBody, false, false),
            (Pooled, HeadWithoutBody, true, true),
            (Pooled, Body, false, false),
            (Pooled, Body, true, false),
        ] {
            assert_eq!(may_try_again(origin, sent, idempotent), again, "{origin:?} {sent:?} {idempotent}");
        }
    }
}
