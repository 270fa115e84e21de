//! Asks an authority by ACME (RFC 8555): account, order, proof, certificate. What carries the words is `instant-acme`'s;
//! when to ask again is decided by who calls.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::authority::{Authority, OrderError};
use super::keep::Keep;
use super::keeper::FOLLOWED;
use super::proof::Exhibit;
use super::shelf::Shelf;
use super::transport::Transport;
use crate::config::acme::{Acme, Challenge};
use crate::logic::renewal::Trouble;

/// How long a whole order may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often, and how long, an authority is asked whether it is done.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_mins(2));

/// The authority that the directory tells of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client;

impl Authority for Client {
    async fn obtain(&self, acme: &Acme, keep: &Keep, shown: &Arc<Shelf>) -> Result<Vec<u8>, OrderError> {
        let transport = Transport::new(acme.directory_ca.as_ref());
        let transport = transport.map_err(|error| OrderError::unreachable(&error.to_string()))?;
        let asking = Asking { acme, keep, shelf: shown, transport };
        let Ok(result) = timeout(PATIENCE, asking.obtain()).await else {
            return Err(OrderError::unreachable("the authority takes too long"));
        };
        result
    }
}

struct Asking<'a> {
    acme: &'a Acme,
    keep: &'a Keep,
    shelf: &'a Arc<Shelf>,
    transport: Transport,
}

impl Asking<'_> {
    async fn obtain(&self) -> Result<Vec<u8>, OrderError> {
        let identifiers: Vec<_> = self.acme.domains.iter().cloned().map(Identifier::Dns).collect();
        let wanted = NewOrder::new(&identifiers);
        let (account, is_new) = self.account().await?;
        let order = match account.new_order(&wanted).await {
            Err(Error::Api(problem)) if !is_new && is_unknown(&problem) => {
                warn!(directory = self.acme.directory, "the authority does not know the account any more");
                self.new_account().await?.new_order(&wanted).await
            }
            order => order,
        };
        let mut order = order.map_err(|error| self.error("the order", &error))?;
        let exhibit = Exhibit::new(self.shelf, self.keep);
        self.prove(&mut order, &exhibit).await?;
        let pem = self.certificate(&mut order).await;
        drop(exhibit);
        pem
    }

    /// The account, and whether it was made just now.
    async fn account(&self) -> Result<(Account, bool), OrderError> {
        let kept = self.keep.account(&self.acme.account_id());
        let kept =
            kept.map_err(|error| OrderError::unreachable(&format!("the account cannot be read: {error}")))?;
        let Some(kept) = kept else { return Ok((self.new_account().await?, true)) };
        let Ok(credentials) = serde_json::from_slice::<AccountCredentials>(&kept) else {
            let folder = self.keep.folder().display();
            warn!(%folder, "the account that is kept cannot be read, a new one is made");
            return Ok((self.new_account().await?, true));
        };
        let account = Account::builder_with_http(Box::new(self.transport.clone()));
        let account = account.from_credentials(credentials).await;
        account.map(|account| (account, false)).map_err(|error| self.error("the directory", &error))
    }

    async fn new_account(&self) -> Result<Account, OrderError> {
        let contact = self.acme.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        // `terms_agreed` is checked where the configuration is read.
        let wanted =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let account = Account::builder_with_http(Box::new(self.transport.clone()));
        let made = account.create(&wanted, self.acme.directory.clone(), None).await;
        let (account, credentials) = made.map_err(|error| self.error("the account", &error))?;
        let text = serde_json::to_vec(&credentials);
        let text =
            text.map_err(|error| OrderError::unreachable(&format!("the account cannot be kept: {error}")))?;
        // An account that is lost is made again at each attempt, which authorities count.
        let kept = self.keep.store_account(&self.acme.account_id(), &text);
        kept.map_err(|error| OrderError::unreachable(&format!("the account cannot be kept: {error}")))?;
        info!(directory = self.acme.directory, "an account was made with the authority");
        Ok(account)
    }

    /// Shows that every name is ours.
    async fn prove(&self, order: &mut Order, exhibit: &Exhibit) -> Result<(), OrderError> {
        let kind = match self.acme.challenge {
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Http01 => ChallengeType::Http01,
        };
        // All proofs stand before the authority is told of any: processes that follow read them at once.
        let mut shown = 0_usize;
        for is_telling in [false, true] {
            if is_telling && shown > 0 && self.keep.is_followed() {
                sleep(FOLLOWED).await;
            }
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization =
                    authorization.map_err(|error| self.error("an authorization", &error))?;
                // Some remember for a while that a name was shown to be ours.
                if authorization.status != AuthorizationStatus::Pending {
                    continue;
                }
                // A stranger's word, and it becomes a file's name.
                let name = match authorization.identifier().identifier {
                    Identifier::Dns(name) => {
                        self.acme.domains.iter().find(|own| own.eq_ignore_ascii_case(name))
                    }
                    _ => None,
                };
                let Some(name) = name else {
                    return Err(OrderError::refused("the authority asks about what was not ordered"));
                };
                let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                    let message = format!("the authority does not offer {} for {name}", self.acme.challenge);
                    return Err(OrderError::refused(&message));
                };
                if is_telling {
                    challenge.set_ready().await.map_err(|error| self.error("the challenge", &error))?;
                    continue;
                }
                shown += 1;
                let key = challenge.key_authorization();
                let put = match self.acme.challenge {
                    Challenge::TlsAlpn01 => exhibit.certificate(name, key.digest().as_ref()),
                    Challenge::Http01 => exhibit.page(&challenge.token, key.as_str()),
                };
                put.map_err(|error| OrderError::refused(&error))?;
            }
        }
        match order.poll_ready(&POLLS).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Ok(_) => Err(self.reasons(order, None).await),
            Err(Error::Api(problem)) => Err(self.reasons(order, Some(&problem)).await),
            Err(error) => Err(self.error("the authority's look at the names", &error)),
        }
    }

    /// Why the authority does not believe that the names are ours; it said `problem` of the whole order.
    async fn reasons(&self, order: &mut Order, problem: Option<&Problem>) -> OrderError {
        let retry_after = self.transport.take_refusal().and_then(|refusal| refusal.retry_after);
        let mut reasons = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                continue;
            }
            let told = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            let name = authorization.identifier().to_string();
            reasons.extend(told.map(|problem| format!("{name}: {}", words(problem))));
        }
        if reasons.is_empty() {
            reasons.push(problem.map_or_else(|| "it does not say why".to_owned(), words));
        }
        let message = format!("the authority does not see that the names lead here: {}", reasons.join("; "));
        OrderError::new(Trouble::Refused, &message, retry_after)
    }

    /// A new key, and the certificate for it.
    async fn certificate(&self, order: &mut Order) -> Result<Vec<u8>, OrderError> {
        let (key, request) = request(&self.acme.domains)
            .map_err(|error| OrderError::unreachable(&format!("no key: {error}")))?;
        order.finalize_csr(&request).await.map_err(|error| self.error("the request", &error))?;
        let chain = order.poll_certificate(&POLLS).await;
        let chain = chain.map_err(|error| self.error("the certificate", &error))?;
        Ok(format!("{key}{chain}").into_bytes())
    }

    /// What `error` at `place` comes to.
    fn error(&self, place: &str, error: &Error) -> OrderError {
        let refusal = self.transport.take_refusal();
        let retry_after = refusal.as_ref().and_then(|refusal| refusal.retry_after);
        match (error, refusal) {
            (Error::Api(problem), _) => {
                let message = format!("{place} is refused: {}", words(problem));
                OrderError::new(Trouble::Refused, &message, retry_after)
            }
            // What is no problem document is an answer of something before the authority.
            (Error::Json(_), Some(refusal)) => {
                let message = format!("{place}: {} answers {}", refusal.url, refusal.status);
                OrderError::new(Trouble::Unreachable, &message, retry_after)
            }
            (Error::Timeout(_), _) => {
                OrderError::new(Trouble::Refused, &format!("{place} is not done in time"), retry_after)
            }
            (error, _) => OrderError::new(Trouble::Unreachable, &format!("{place}: {error}"), retry_after),
        }
    }
}

/// What a problem says, with its type.
fn words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
    let detail = problem.detail.as_deref().unwrap_or("no detail");
    let parts = problem.subproblems.iter().map(|part| format!("; {part}"));
    format!("{detail} ({kind}){}", parts.collect::<String>())
}

fn is_unknown(problem: &Problem) -> bool {
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// A new key in PEM, and a request for `domains` in DER that is signed with it.
fn request(domains: &[String]) -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(domains)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}
