use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::account::{account, existing, is_unknown_account, register};
use super::failure::Failure;
use super::order::issue;
use super::renewal::Renewal;
use super::renewal_info::RenewalInfo;
use super::schedule::{Lifetime, due, random_share};
use super::store::Attempts;
use super::transport::Client;
use crate::observe::clock::{self, date};
use crate::tls::{Certificate, Resolver};

/// For everything that one certificate takes.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(600);
/// The clock is looked at so often: it may be set, and the machine may sleep.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);
/// A certificate that could not be kept is tried to be kept again so often.
const KEEP_AGAIN: Duration = Duration::from_secs(10);

/// One process's attempts to have a certificate.
struct Run<'r> {
    renewal: &'r Renewal,
    resolver: &'r Resolver,
    memory: RefCell<Memory>,
}

#[derive(Default)]
struct Memory {
    attempts: Attempts,
    renewal_info: Option<RenewalInfo>,
    /// Key and chain that could not be kept yet.
    unkept: Option<String>,
    /// Nothing was tried since the operator started or reloaded.
    eager: bool,
}

impl Renewal {
    /// Gets certificates and puts them into `resolver`, for ever.
    pub async fn run(self: Arc<Self>, resolver: Arc<Resolver>) {
        let attempts = self.store.attempts().with(&self.acme);
        let memory = Memory { attempts, eager: true, ..Memory::default() };
        let run = Run { renewal: &self, resolver: &resolver, memory: RefCell::new(memory) };
        if let Some(kept) = run.current() {
            run.report_expiry(&kept);
        }
        loop {
            run.until_due().await;
            run.attempt().await;
        }
    }
}

impl Run<'_> {
    async fn until_due(&self) {
        let random = random_share();
        loop {
            self.keep();
            self.ask_when_to_renew().await;
            let now = clock::now().as_second();
            let due = self.due(now, random).max(now);
            if due == now {
                return;
            }
            self.renewal.update(|progress| progress.next = Some(due));
            tokio::select! {
                () = sleep(self.patience(due - now)) => {}
                () = self.renewal.wake.notified() => self.memory.borrow_mut().eager = true,
            }
        }
    }

    fn due(&self, now: i64, random: f64) -> i64 {
        let mut memory = self.memory.borrow_mut();
        memory.attempts = memory.attempts.as_of(now);
        let suggested = memory.renewal_info.as_ref().and_then(|renewal_info| renewal_info.renew_at);
        due(self.current().map(|now| lifetime(&now)), suggested, memory.attempts, memory.eager, random)
    }

    /// How long nothing changes by itself.
    fn patience(&self, left: i64) -> Duration {
        let look = if self.memory.borrow().unkept.is_some() { KEEP_AGAIN } else { CHECK_INTERVAL };
        look.min(Duration::from_secs(left.unsigned_abs()))
    }

    /// The certificate in force, if it has every name.
    fn current(&self) -> Option<Arc<Certificate>> {
        let automatic = self.resolver.automatic();
        automatic.filter(|held| !held.is_placeholder && self.has_every_name(held))
    }

    async fn attempt(&self) {
        let renewal = self.renewal;
        renewal.update(|progress| progress.next = None);
        let before = self.memory.borrow().attempts;
        match self.get().await {
            Ok(certificate) => {
                self.report_expiry(&certificate);
                self.resolver.replace_automatic(certificate);
                renewal.update(|progress| progress.failure = None);
                self.ended(Attempts::default());
            }
            Err(failure) => {
                renewal.failed.add(1);
                let why = failure.to_string();
                let failures = before.failures.saturating_add(1);
                renewal.note(&format!(
                    "no certificate from {}, what is in force stays: {why} (failure {failures})",
                    renewal.acme.directory
                ));
                renewal.update(|progress| progress.failure = Some(why));
                let not_before = renewal.transport.take_not_before();
                let is_final = match &failure {
                    Failure::Refused(refusal) => !refusal.may_say_when() || not_before.is_none(),
                    _ => false,
                };
                let refused_settings = is_final.then(|| Attempts::settings(&renewal.acme));
                self.ended(Attempts { failures, not_before, refused_settings, last: None });
            }
        }
    }

    fn report_expiry(&self, certificate: &Certificate) {
        self.renewal.note(&format!(
            "a certificate for {} is in force until {}, to be renewed on {}",
            certificate.names().join(", "),
            date(certificate.not_after),
            date(lifetime(certificate).two_thirds()),
        ));
    }

    fn ended(&self, attempts: Attempts) {
        let attempts = Attempts { last: Some(clock::now().as_second()), ..attempts };
        let mut memory = self.memory.borrow_mut();
        (memory.attempts, memory.eager) = (attempts, false);
        // That nothing can be kept is told where it matters: before the next order, and of the
        // certificate.
        let _ = self.renewal.store.store_attempts(attempts);
    }

    async fn get(&self) -> Result<Certificate, Failure> {
        let Renewal { acme, store, transport, .. } = self.renewal;
        let _lock = store.lock()?;
        if let Some(certificate) = self.got_by_another() {
            return Ok(certificate);
        }
        // Until it has gone well it counts as gone wrong: a process that is killed on the way does
        // not ask again at once. And where nothing can be kept, nothing is asked for.
        let before = self.memory.borrow().attempts;
        let failures = before.failures.saturating_add(1);
        store.store_attempts(Attempts {
            last: Some(clock::now().as_second()),
            failures,
            not_before: None,
            refused_settings: None,
        })?;
        self.renewal.note(&format!(
            "asking {} for a certificate for {} ({})",
            acme.directory,
            acme.domains.join(", "),
            acme.challenge
        ));
        let ordered =
            timeout(ATTEMPT_TIMEOUT, transport.serve(async |client| self.order(&client).await)).await;
        let pem = ordered.map_err(|_| Failure::Slow(ATTEMPT_TIMEOUT))??;
        let certificate = Certificate::from_pem(pem.as_bytes(), &store.certificate_path())?;
        self.renewal.issued.add(1);
        self.memory.borrow_mut().unkept = Some(pem);
        self.keep();
        Ok(certificate)
    }

    /// What another process has kept since this one looked, a takeover's for example. One that
    /// cannot be used is none.
    fn got_by_another(&self) -> Option<Certificate> {
        let kept = self.renewal.store.certificate().ok()??;
        let is_newer = self.current().is_none_or(|current| kept.not_after > current.not_after);
        (is_newer && self.has_every_name(&kept)).then_some(kept)
    }

    fn has_every_name(&self, certificate: &Certificate) -> bool {
        self.renewal.domains().iter().all(|name| certificate.covers(name))
    }

    async fn order(&self, client: &Client) -> Result<String, Failure> {
        let Renewal { acme, store, challenges, .. } = self.renewal;
        let replaced = || {
            let current = self.current()?;
            self.memory.borrow().renewal_info.as_ref()?.replaced(&current)
        };
        let known = account(acme, store, client).await?;
        match issue(&known, acme, challenges, replaced()).await {
            Err(Failure::Authority(error)) if is_unknown_account(&error) => {
                let new = register(acme, store, client).await?;
                issue(&new, acme, challenges, replaced()).await
            }
            issued => issued,
        }
    }

    /// Keeps what was got. A full disk takes no certificate away, and causes no order of another
    /// one.
    fn keep(&self) {
        let mut memory = self.memory.borrow_mut();
        let Some(pem) = memory.unkept.take() else { return };
        if let Err(error) = self.renewal.store.store_certificate(&pem) {
            self.renewal
                .note(&format!("the new certificate cannot be kept, and a restart would lose it: {error}"));
            memory.unkept = Some(pem);
        }
    }

    /// Asks the authority when it wants the certificate renewed, if there is one and it is time to
    /// ask.
    async fn ask_when_to_renew(&self) {
        let Some(current) = self.current() else { return };
        let now = clock::now().as_second();
        let known = self.memory.borrow_mut().renewal_info.take().filter(|known| known.is_of(&current));
        let renewal_info = match known {
            Some(known) if known.ask_again > now => known,
            known => self.renewal_info(&current, known, now).await,
        };
        self.memory.borrow_mut().renewal_info = Some(renewal_info);
    }

    async fn renewal_info(&self, current: &Certificate, known: Option<RenewalInfo>, now: i64) -> RenewalInfo {
        let Renewal { acme, store, transport, .. } = self.renewal;
        let asked = transport.serve(async |client| match existing(acme, store, &client).await? {
            Some(account) => Ok(RenewalInfo::ask(&account, current, known.clone(), now).await?),
            None => Ok(RenewalInfo::none(current, now)),
        });
        let failed = |why: Failure| {
            self.renewal.note(&format!("{} does not say when to renew: {why}", acme.directory));
            known.clone().map_or_else(|| RenewalInfo::none(current, now), |known| known.asked_in_vain(now))
        };
        asked.await.unwrap_or_else(failed)
    }
}

fn lifetime(certificate: &Certificate) -> Lifetime {
    Lifetime { not_before: certificate.not_before, not_after: certificate.not_after }
}
