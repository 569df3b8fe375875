//! When the authority itself wants a certificate renewed: ACME renewal information (RFC 9773).

use instant_acme::{Account, CertificateIdentifier, Error};

use super::schedule::{random_share, within};
use crate::tls::Certificate;

/// How soon it is asked again, in seconds: as it says, but within these.
const SOONEST: i64 = 60;
const LATEST: i64 = 24 * 3600;
/// After an authority that does not say, or cannot be asked.
const UNKNOWN: i64 = 6 * 3600;

/// What the authority said about one certificate. Times are seconds of Unix time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RenewalInfo {
    /// The certificate, in DER.
    of: Vec<u8>,
    /// The time that it proposes; `None`: it does not say.
    window: Option<(i64, i64)>,
    /// A moment in there.
    pub(super) renew_at: Option<i64>,
    pub(super) ask_again: i64,
}

impl RenewalInfo {
    /// What an authority that said nothing has said.
    pub(super) fn none(certificate: &Certificate, now: i64) -> Self {
        Self { of: der(certificate), window: None, renew_at: None, ask_again: now + UNKNOWN }
    }

    /// What was said still holds; it is a while until the next question.
    pub(super) fn asked_in_vain(self, now: i64) -> Self {
        Self { ask_again: now + UNKNOWN, ..self }
    }

    pub(super) fn is_of(&self, certificate: &Certificate) -> bool {
        self.of == der(certificate)
    }

    /// Asks the authority; `before` is what it said last. A moment that was chosen stays while its
    /// window does.
    pub(super) async fn ask(
        account: &Account,
        certificate: &Certificate,
        before: Option<Self>,
        now: i64,
    ) -> Result<Self, Error> {
        let Some(identifier) = identifier(certificate) else { return Ok(Self::none(certificate, now)) };
        let (info, again) = match account.renewal_info(&identifier).await {
            Err(Error::Unsupported(_)) => return Ok(Self::none(certificate, now)),
            said => said?,
        };
        let (start, end) = (info.suggested_window.start, info.suggested_window.end);
        let window = (start.unix_timestamp(), end.unix_timestamp());
        let chosen = before.filter(|before| before.window == Some(window)).and_then(|before| before.renew_at);
        let again = i64::try_from(again.as_secs()).unwrap_or(LATEST).clamp(SOONEST, LATEST);
        Ok(Self {
            of: der(certificate),
            window: Some(window),
            renew_at: Some(chosen.unwrap_or_else(|| within(window.0, window.1, random_share()))),
            ask_again: now + again,
        })
    }

    /// The name by which the authority knows the certificate, where it wants to hear that it is
    /// being replaced.
    pub(super) fn replaced(&self, certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
        self.window.and_then(|_| identifier(certificate))
    }
}

fn der(certificate: &Certificate) -> Vec<u8> {
    certificate.own().map(|own| own.to_vec()).unwrap_or_default()
}

fn identifier(certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
    CertificateIdentifier::try_from(certificate.own()?).ok().map(CertificateIdentifier::into_owned)
}
