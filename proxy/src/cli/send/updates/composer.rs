use super::messaging;
use super::update::{ACCOUNTS, Delivery, Form, Product, Update};
use super::whatsapp;

/// People of whose messages statuses tell. A read event of Messenger is known by person and
/// millisecond: there must be more people than messages in a millisecond.
const PEOPLE: u64 = 10_000;

/// Makes the bodies of a run's deliveries, one after the other.
#[derive(Debug)]
pub struct Composer {
    form: Form,
    run: [u8; 6],
    messages: u64,
    next_update: u64,
}

impl Composer {
    /// `run`: random, so that no id comes twice.
    pub fn new(form: Form, deliveries: u32, run: [u8; 6]) -> Self {
        let updates = u64::from(deliveries) * u64::from(form.batch);
        Self { form, run, messages: updates.div_ceil(form.steps().len() as u64), next_update: 0 }
    }

    /// `time`: milliseconds since 1970.
    pub fn next_body(&mut self, time: i64) -> serde_json::Result<Vec<u8>> {
        let Self { form, run, messages, next_update } = *self;
        self.next_update += u64::from(form.batch);
        let updates: Vec<Update> = (next_update..self.next_update).map(|at| update(&form, at)).collect();
        let by_account: Vec<Vec<Update>> = (0..ACCOUNTS)
            .map(|account| updates.iter().filter(|update| update.account == account).copied().collect())
            .filter(|updates: &Vec<Update>| !updates.is_empty())
            .collect();
        let delivery = Delivery { run, time, messages, without_number: form.without_number };
        match form.product {
            Product::WhatsApp => whatsapp::body(&delivery, &by_account),
            Product::Messenger => messaging::body(messaging::Kind::Messenger, &delivery, &by_account),
            Product::Instagram => messaging::body(messaging::Kind::Instagram, &delivery, &by_account),
        }
    }
}

/// The update at a place of the run.
fn update(form: &Form, at: u64) -> Update {
    let steps = form.steps();
    let (message, step) = (at / steps.len() as u64, at % steps.len() as u64);
    // As many messages as one delivery tells of: so a batch goes to all accounts, and deliveries of
    // one update to the first.
    let spread = u64::from(form.batch).div_ceil(steps.len() as u64);
    Update {
        step: steps[usize::try_from(step).unwrap_or_default()],
        message,
        person: message % if form.statuses { PEOPLE } else { spread },
        account: message % spread % ACCOUNTS,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::super::update::MAX_UPDATES;
    use super::*;

    const TIME: i64 = 1_795_539_600_123;
    const FORM: Form = Form { product: Product::WhatsApp, batch: 1, statuses: false, without_number: false };

    fn bodies(form: Form, deliveries: u32) -> Vec<String> {
        let mut composer = Composer::new(form, deliveries, *b"hookga");
        let body = |_| String::from_utf8(composer.next_body(TIME).unwrap()).unwrap();
        (0..deliveries).map(body).collect()
    }

    #[test]
    fn a_message_has_the_form_of_metas() {
        assert_eq!(
            bodies(FORM, 1),
            [concat!(
                r#"{"object":"whatsapp_business_account","entry":[{"id":"100000000000000","changes":[{"value":"#,
                r#"{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550100000","#,
                r#""phone_number_id":"100000000000001"},"contacts":[{"profile":{"name":"hookgate"},"#,
                r#""wa_id":"15550100001","user_id":"US.10000000000000001"}],"messages":[{"from":"15550100001","#,
                r#""from_user_id":"US.10000000000000001","#,
                r#""id":"wamid.HBgLMTU1NTAxMDAwMDEVAgASGBQ2ODZGNkY2QjY3NjEwMDAwMDAwMAA=","#,
                r#""timestamp":"1795539600","text":{"body":"Test message 1 of 1 from hookgate send"},"#,
                r#""type":"text"}]},"field":"messages"}]}]}"#,
            )]
        );
        let instagram = bodies(Form { product: Product::Instagram, ..FORM }, 1);
        assert_eq!(
            instagram,
            [concat!(
                r#"{"object":"instagram","entry":[{"time":1795539600123,"id":"17840000000000001","messaging":["#,
                r#"{"sender":{"id":"1000000000000001"},"recipient":{"id":"17840000000000001"},"#,
                r#""timestamp":1795539600123,"message":{"mid":"aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlEOjE3ODQwMDAwMDAwMDAwMDAxOj"#,
                r#"M0MDI4MjM2Njg0MTcxMDMwMTI0NDI3NjAwMDAwMDAwMDAwMDAwMTowMDAwMDAwMDAwMDA0OTMxODE3MzE0MzUwNTE4ODk5ODM0ODg","text":"Test message 1 of 1 from hookgate send"}}]}]}"#,
            )]
        );
    }

    #[test]
    fn the_largest_bodies_are_what_meta_could_send() {
        for product in [Product::WhatsApp, Product::Messenger, Product::Instagram] {
            for (statuses, without_number) in [(false, false), (true, false), (false, true), (true, true)] {
                let form = Form { product, batch: MAX_UPDATES, statuses, without_number };
                let body = bodies(form, 1).remove(0);
                assert!(body.len() < 3_000_000, "{form:?}: {} bytes", body.len());
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(body["entry"].as_array().unwrap().len(), 2, "{form:?}");
            }
        }
    }

    #[test]
    fn the_statuses_of_a_message_follow_each_other() {
        let form = Form { statuses: true, ..FORM };
        assert_eq!(form.deliveries_per_message(), 3);
        let bodies = bodies(form, 6);
        let of = |body: &String, key: &str| {
            let body: Value = serde_json::from_str(body).unwrap();
            body["entry"][0]["changes"][0]["value"]["statuses"][0][key].as_str().unwrap().to_owned()
        };
        let statuses: Vec<String> = bodies.iter().map(|body| of(body, "status")).collect();
        assert_eq!(statuses, ["sent", "delivered", "read", "sent", "delivered", "read"]);
        let ids: Vec<String> = bodies.iter().map(|body| of(body, "id")).collect();
        assert!(ids[..3].iter().all(|id| *id == ids[0]) && ids[3..].iter().all(|id| *id == ids[3]));
        assert_ne!(ids[0], ids[3]);
        assert_eq!(Form { batch: 2, ..form }.deliveries_per_message(), 2);
        assert_eq!(Form { batch: 10, ..form }.deliveries_per_message(), 1);
    }

    #[test]
    fn a_batch_of_reads_has_one_of_each_person() {
        let form = Form { product: Product::Messenger, batch: 9, statuses: true, without_number: false };
        for body in bodies(form, 4) {
            let body: Value = serde_json::from_str(&body).unwrap();
            let items =
                body["entry"].as_array().unwrap().iter().flat_map(|e| e["messaging"].as_array().unwrap());
            let reads: Vec<&Value> = items.filter(|item| item.get("read").is_some()).collect();
            let people: HashSet<_> =
                reads.iter().map(|item| item["sender"]["id"].as_str().unwrap()).collect();
            assert_eq!(people.len(), reads.len(), "{body}");
        }
    }
}
