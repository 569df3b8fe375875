//! The account with the authority.

use http::Request;
use instant_acme::{Account, AccountCredentials, BodyWrapper, Error, HttpClient as _, NewAccount, Problem};
use serde_json::Value;

use super::failure::Failure;
use super::refusal::{Refusal, is};
use super::store::{self, Store};
use super::transport::Client;
use crate::config::Acme;

/// The account that is kept, else a new one.
pub(super) async fn account(acme: &Acme, store: &Store, client: &Client) -> Result<Account, Failure> {
    match existing(acme, store, client).await? {
        Some(account) => Ok(account),
        None => register(acme, store, client).await,
    }
}

/// The account that is kept; `None` where there is none, or the authority does not know it any
/// more.
pub(super) async fn existing(
    acme: &Acme,
    store: &Store,
    client: &Client,
) -> Result<Option<Account>, Failure> {
    let Some(kept) = store.account()? else { return Ok(None) };
    let account = Account::builder_with_http(client.boxed()).from_credentials(kept.credentials()?).await?;
    if kept.contact == acme.contact {
        return Ok(Some(account));
    }
    match account.update_contacts(&borrowed(&acme.contact)).await {
        Ok(()) => {
            store.store_account(&store::Account { contact: acme.contact.clone(), ..kept })?;
            Ok(Some(account))
        }
        Err(error) if is_unknown_account(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a new account and keeps it.
pub(super) async fn register(acme: &Acme, store: &Store, client: &Client) -> Result<Account, Failure> {
    if wants_external_account(acme, client).await? {
        return Err(Failure::Refused(Refusal::ExternalAccount));
    }
    let contact = borrowed(&acme.contact);
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(client.boxed());
    let (account, credentials) = builder.create(&new, acme.directory.to_string(), None).await?;
    store.store_account(&store::Account::new(&acme.contact, &credentials)?)?;
    Ok(account)
}

/// Asks the directory (RFC 8555 §7.1.1).
async fn wants_external_account(acme: &Acme, client: &Client) -> Result<bool, Error> {
    let request = Request::builder().uri(&*acme.directory).body(BodyWrapper::default())?;
    let mut answer = client.request(request).await?;
    let directory = answer.body.into_bytes().await.map_err(Error::Other)?;
    // What is no directory fails when the account is made.
    let directory: Value = serde_json::from_slice(&directory).unwrap_or_default();
    Ok(directory["meta"]["externalAccountRequired"] == true)
}

impl store::Account {
    fn new(contact: &[String], credentials: &AccountCredentials) -> Result<Self, Error> {
        Ok(Self { contact: contact.to_vec(), credentials: serde_json::to_value(credentials)? })
    }

    fn credentials(&self) -> Result<AccountCredentials, Error> {
        Ok(serde_json::from_value(self.credentials.clone())?)
    }
}

/// Whether the authority has lost the account (RFC 8555 §6.7).
pub(super) fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is(problem, "accountDoesNotExist"))
}

/// Whether the certificate was renewed already (RFC 9773 §7.4).
pub(super) fn is_already_replaced(problem: &Problem) -> bool {
    is(problem, "alreadyReplaced")
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
