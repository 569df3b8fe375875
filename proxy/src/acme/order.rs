//! One certificate: order it, answer the challenges, fetch it.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};

use super::account::is_already_replaced;
use super::failure::Failure;
use super::refusal::{Refusal, detail};
use crate::config::{Acme, Challenge, HostName};
use crate::tls::Challenges;

/// How often, and how long, the authority is asked how far it is.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// Gets a certificate: its key and chain, in one PEM text. `replaces`: the one in whose place it
/// comes, where the authority wants to know.
pub(super) async fn issue(
    account: &Account,
    acme: &Acme,
    challenges: &Challenges,
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<String, Failure> {
    let mut order = place(account, &acme.domains, replaces).await?;
    let issued = fulfil(&mut order, acme.challenge, challenges).await;
    challenges.clear();
    issued
}

async fn place(
    account: &Account,
    names: &[HostName],
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<Order, Error> {
    let identifiers: Vec<_> = names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
    let new = NewOrder::new(&identifiers);
    let Some(replaces) = replaces else { return account.new_order(&new).await };
    match account.new_order(&NewOrder::new(&identifiers).replaces(replaces)).await {
        Err(Error::Api(problem)) if !is_already_replaced(&problem) => Err(problem.into()),
        // Without it the order is one like any other.
        Err(_) => account.new_order(&new).await,
        placed => placed,
    }
}

async fn fulfil(order: &mut Order, challenge: Challenge, challenges: &Challenges) -> Result<String, Failure> {
    answer_all(order, challenge, challenges).await?;
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) | Err(Error::Api(_)) => return Err(what_failed(order, challenge).await?),
        Err(error) => return Err(error.into()),
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&POLL).await?;
    Ok(format!("{key}{chain}"))
}

/// Makes every answer ready, then tells the authority.
async fn answer_all(order: &mut Order, challenge: Challenge, challenges: &Challenges) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let offered = authorization.challenge(kind(challenge));
        let mut offered = offered.ok_or_else(|| Failure::NotOffered { name: name.clone(), challenge })?;
        let answer = offered.key_authorization();
        match challenge {
            Challenge::Http01 => challenges.set_text(&offered.token, answer.as_str()),
            Challenge::TlsAlpn01 => challenges.set_certificate(&name, answer.digest().as_ref())?,
        }
        offered.set_ready().await?;
    }
    Ok(())
}

/// Which name the authority was not convinced of, and why.
async fn what_failed(order: &mut Order, challenge: Challenge) -> Result<Failure, Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        authorization.refresh().await?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let error = authorization.challenges.iter().find_map(|tried| tried.error.as_ref());
        if let Some(refusal) = error.and_then(Refusal::of) {
            return Ok(Failure::Refused(refusal));
        }
        let why = error.map_or_else(|| "it does not say why".to_owned(), detail);
        return Ok(Failure::Unconvinced { name: authorization.identifier().to_string(), why, challenge });
    }
    Ok(order.state().error.clone().map_or(Failure::Invalid, |problem| Error::Api(problem).into()))
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}
