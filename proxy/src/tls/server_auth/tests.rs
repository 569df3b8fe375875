//! Certificates that are named in `ca` and shown, each with something wrong.

use std::io;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

use super::*;
use crate::tls::{fault, provider};

const NAME: &str = "up.example";

/// What is said of a certificate for `names` that is changed like this; `None`: it is believed.
fn said(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let own = CertificateDer::from(params.self_signed(&KeyPair::generate().unwrap()).unwrap());
    let algorithms = provider().signature_verification_algorithms;
    let verifier =
        ServerVerifier::new(Arc::new(RootCertStore::empty()), vec![own.clone()].into(), algorithms);
    let name = ServerName::try_from(NAME).unwrap();
    let verified = verifier.verify_server_cert(&own, &[], &name, &[], UnixTime::now());
    verified.err().map(|error| fault(&io::Error::other(error)).to_string())
}

#[test]
fn that_it_is_named_excuses_no_more_than_its_being_an_authority() {
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 12, 31);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let critical = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    let expected = |text: &str| Some(text.to_owned());
    assert_eq!(said(&[NAME], |_| {}), None);
    assert_eq!(
        said(&["other.example"], |_| {}),
        expected(
            "the certificate is for another name: it is for other.example: get one for up.example, or name the \
             upstream as it is"
        )
    );
    assert_eq!(
        said(&[NAME], expired),
        expected("the certificate has expired, on 2020-12-31T00:00:00Z: renew it at the upstream")
    );
    assert_eq!(
        said(&[NAME], early),
        expected(
            "the certificate is not valid yet, but from 3000-01-01T00:00:00Z on: is this machine's clock right?"
        )
    );
    assert_eq!(
        said(&[NAME], client),
        expected(
            "the certificate is not for servers (its extended key usage lacks serverAuth): get one for TLS servers"
        )
    );
    assert_eq!(
        said(&[NAME], critical),
        expected(
            "the certificate has a critical extension that hookgate does not know (1.2.3.4): get one without it"
        )
    );
}
