//! Conditions and variables of one request, as far as they can be known without a running nginx.

use std::rc::Rc;

use super::client_names::{common_name, names_in_subject};
use super::evaluate::{Assumption, ClientCertificate, Run};
use super::maps::{Expression, Found, Map};
use super::setup::Condition;
use super::variables::{Builtin, Part, Source, Template, Value, Variable};
use crate::import::directive::Directive;
use crate::import::pattern::Match;

impl<'s, 'd> Run<'s, 'd, '_> {
    pub(super) fn holds(&mut self, condition: &'s Condition, directive: &'d Directive) -> bool {
        match condition {
            Condition::IsTrue(value) => match self.value(value) {
                Value::Known(text) => !matches!(&*text, "" | "0"),
                _ => self.assume(directive, None),
            },
            Condition::Equals { value, to, is_negated } => {
                let (value, to) = (self.value(value), self.value(to));
                match (&value, &to) {
                    (Value::Known(value), Value::Known(to)) => (value == to) != *is_negated,
                    (Value::ClientCertificateName, Value::Known(subject)) => {
                        let names = common_name(subject).into_iter().collect();
                        self.assume_name(directive, names, *is_negated)
                    }
                    _ => self.assume(directive, None),
                }
            }
            Condition::Matches { value, expression, is_negated } => match self.value(value) {
                Value::ClientCertificateName => {
                    let names = expression.pattern.hir.as_ref().and_then(names_in_subject);
                    self.assume_name(directive, names.unwrap_or_default(), *is_negated)
                }
                value if *is_negated => !self.matches_or(&value, expression, directive, true),
                value => self.matches(&value, expression, directive),
            },
            Condition::Outside => self.assume(directive, None),
        }
    }

    pub(super) fn matches(
        &mut self,
        value: &Value,
        expression: &'s Expression,
        directive: &'d Directive,
    ) -> bool {
        self.matches_or(value, expression, directive, false)
    }

    /// Whether `value` matches; `is_negated`: the directive's condition is that it does not.
    fn matches_or(
        &mut self,
        value: &Value,
        expression: &'s Expression,
        directive: &'d Directive,
        is_negated: bool,
    ) -> bool {
        let found = match value {
            Value::Known(text) => expression.pattern.find(text),
            _ => Match::Unknown,
        };
        match found {
            Match::Yes(groups) => {
                self.take_groups(expression, groups);
                true
            }
            Match::No => false,
            Match::Unknown => {
                let is_match = self.assume(directive, None) != is_negated;
                if is_match {
                    self.forget_groups(expression);
                }
                is_match
            }
        }
    }

    /// The groups of a match that is only assumed.
    pub(super) fn forget_groups(&mut self, expression: &Expression) {
        self.groups = vec![Value::Unknown; 10];
        for (_, variable) in &expression.variables {
            self.values[variable.0] = Some(Value::Unknown);
        }
    }

    pub(super) fn take_groups(&mut self, expression: &Expression, groups: Vec<String>) {
        self.groups = groups.iter().map(|group| Value::known(group)).collect();
        for (number, variable) in &expression.variables {
            self.values[variable.0] = Some(self.groups.get(*number).cloned().unwrap_or(Value::known("")));
        }
    }

    /// Whether a condition that cannot be decided is to hold this time.
    pub(super) fn assume(
        &mut self,
        directive: &'d Directive,
        certificate_names: Option<Vec<String>>,
    ) -> bool {
        let position = self.assumed.len();
        if position == self.choices.len() {
            self.choices.push(false);
        }
        let holds = self.choices[position];
        self.assumed.push(Assumption { directive, holds, certificate_names });
        holds
    }

    /// The same of a condition on a client certificate's names; none: it is not understood.
    fn assume_name(&mut self, directive: &'d Directive, names: Vec<String>, is_negated: bool) -> bool {
        if names.is_empty() {
            return self.assume(directive, None);
        }
        let holds = self.assume(directive, Some(names));
        // What is noted is whether the name is one of those.
        if let Some(assumption) = self.assumed.last_mut() {
            assumption.holds = holds != is_negated;
        }
        holds
    }

    pub(super) fn value(&mut self, template: &Template) -> Value {
        if let [part] = &*template.0 {
            return self.part(part);
        }
        let (mut text, mut is_of_query) = (String::new(), false);
        for part in &template.0 {
            match self.part(part) {
                Value::Known(part) => text += &part,
                Value::OfQuery(part) => {
                    text += &part;
                    is_of_query = true;
                }
                Value::ClientCertificateName | Value::Unknown => return Value::Unknown,
            }
        }
        if is_of_query { Value::OfQuery(text.into()) } else { Value::Known(text.into()) }
    }

    fn part(&mut self, part: &Part) -> Value {
        match part {
            Part::Text(text) => Value::known(text),
            Part::Variable(variable) => self.variable(*variable),
            Part::Group(number) => self.groups.get(*number).cloned().unwrap_or(Value::known("")),
        }
    }

    pub(super) fn variable(&mut self, variable: Variable) -> Value {
        let source = self.setup.variables.source(variable);
        if source == Source::External {
            return Value::Unknown;
        }
        if let Some(value) = &self.values[variable.0] {
            return value.clone();
        }
        match source {
            Source::Request(builtin) => self.builtin(builtin),
            Source::Map(position) => self.mapped(position),
            Source::Assigned => Value::known(""),
            Source::Outside | Source::External | Source::Undefined => Value::Unknown,
        }
    }

    fn mapped(&mut self, position: usize) -> Value {
        let map = &self.setup.maps[position];
        if self.maps_in_use.contains(&position) || self.lookups_left == 0 {
            return Value::Unknown;
        }
        self.maps_in_use.push(position);
        self.lookups_left -= 1;
        let source = self.value(&map.source);
        let value = match source.text().map(|text| map.find(text)) {
            None if source == Value::ClientCertificateName => self.mapped_name(map),
            None => {
                let pieces = self.pieces(&map.source);
                map.only_value(&pieces).map_or(Value::Unknown, |value| self.value(value))
            }
            Some(Found::Undecided) => Value::Unknown,
            Some(Found::Nothing) => Value::known(""),
            Some(Found::Value(template, matched)) => {
                if let Some((expression, groups)) = matched {
                    self.take_groups(expression, groups);
                }
                match (self.value(template), &source) {
                    (Value::Known(text), Value::OfQuery(_)) => Value::OfQuery(text),
                    (value, _) => value,
                }
            }
        };
        self.maps_in_use.pop();
        if !map.is_volatile {
            self.values[map.target.0] = Some(value.clone());
        }
        value
    }

    /// The value of a map that tells some names of client certificates from all others.
    fn mapped_name(&mut self, map: &'s Map<'d>) -> Value {
        let Some((directive, names, [named, other])) = map.certificate_names() else { return Value::Unknown };
        let is_named = self.assume_name(directive, names, false);
        self.value(if is_named { named } else { other })
    }

    /// The parts of a text, those that are not known as `None`.
    fn pieces(&mut self, template: &Template) -> Vec<Option<Rc<str>>> {
        template.0.iter().map(|part| self.part(part).text().cloned()).collect()
    }

    fn builtin(&self, builtin: Builtin) -> Value {
        let request = &self.request;
        match builtin {
            Builtin::Args => Value::OfQuery(self.args.as_str().into()),
            Builtin::IsArgs => Value::OfQuery(if self.args.is_empty() { "" } else { "?" }.into()),
            Builtin::Uri => Value::known(&self.uri),
            Builtin::RequestUri => Value::known(request.target),
            Builtin::Host => request.host.map_or(Value::Unknown, Value::known),
            Builtin::Scheme => Value::known(if request.is_tls { "https" } else { "http" }),
            Builtin::Https => Value::known(if request.is_tls { "on" } else { "" }),
            Builtin::ServerPort => Value::known(&request.port.to_string()),
            Builtin::ServerName => Value::known(self.server.names.first().copied().unwrap_or("")),
            Builtin::ClientVerify => Value::known(match request.certificate {
                ClientCertificate::NotAsked => "",
                ClientCertificate::Missing => "NONE",
                ClientCertificate::Verified => "SUCCESS",
            }),
            Builtin::ClientCertificateName if request.certificate == ClientCertificate::Verified => {
                Value::ClientCertificateName
            }
            Builtin::ClientCertificateName => Value::known(""),
            // It is set where a URL is known.
            Builtin::ProxyHost => Value::Unknown,
        }
    }
}
