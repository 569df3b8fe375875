use std::rc::Rc;

use anyhow::Context as _;

use super::meta;
use super::updates::Composer;
use super::url::Url;
use crate::observe::clock;

/// The deliveries of a run, each made when it is due.
pub struct Requests<'r>(Source<'r>);

enum Source<'r> {
    Same(Rc<[u8]>),
    Composed { url: &'r Url, composer: Composer, secret: Option<&'r str> },
}

impl<'r> Requests<'r> {
    /// All have the body `payload`.
    pub fn same(url: &Url, payload: &[u8], secret: Option<&str>) -> Self {
        Self(Source::Same(meta::delivery(url, payload, secret).into()))
    }

    /// Each has updates of its own.
    pub fn new(url: &'r Url, composer: Composer, secret: Option<&'r str>) -> Self {
        Self(Source::Composed { url, composer, secret })
    }

    pub fn next(&mut self) -> anyhow::Result<Rc<[u8]>> {
        match &mut self.0 {
            Source::Same(request) => Ok(Rc::clone(request)),
            Source::Composed { url, composer, secret } => {
                let body =
                    composer.next_body(clock::now().as_millisecond()).context("cannot write a delivery")?;
                Ok(meta::delivery(url, &body, *secret).into())
            }
        }
    }
}
