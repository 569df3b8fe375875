use serde::Deserialize;

use super::*;

/// Answers of a registry, and what is made of them.
const CASES: &str = include_str!("../../../../tests/data/registry.toml");

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Without the two blank lines that end it.
    answer: String,
    #[serde(default)]
    registered: Vec<String>,
    #[serde(default)]
    left_out: Vec<String>,
    refused: Option<String>,
}

fn read(answer: &str) -> Result<Registered, BadAnswer> {
    Registered::read(answer.as_bytes())
}

#[test]
fn answers_as_data() {
    let cases: Cases = toml::from_str(CASES).unwrap();
    for case in cases.case {
        let outcome = read(&(case.answer.trim_end_matches('\n').to_owned() + "\n\n\n"));
        let shown = |left_out: &[LeftOut]| left_out.iter().map(LeftOut::to_string).collect::<Vec<_>>();
        match (outcome, case.refused) {
            (Ok(Registered { networks, left_out }), None) => {
                let networks: Vec<String> = networks.iter().map(Network::to_string).collect();
                assert_eq!((networks, shown(&left_out)), (case.registered, case.left_out), "{}", case.name);
            }
            (Err(error), Some(refused)) => {
                assert_eq!(error.to_string(), refused, "{}", case.name);
                if let BadAnswer::Nothing { left_out } = error {
                    assert_eq!(shown(&left_out), case.left_out, "{}", case.name);
                }
            }
            (outcome, refused) => panic!("{}: {outcome:?}, but expected {refused:?}", case.name),
        }
    }
}

const COMPLETE_ANSWER: &str = "% IRRd\n\nroute: 157.240.0.0/17\norigin: AS32934\nmnt-by: MAINT-AS32934\nsource: RADB\n\n\
                     route6: 2a03:2880::/32\norigin: as32934\nmnt-by: META-MNT\nsource: ripe\n\n\n";

#[test]
fn an_answer_that_breaks_off_within_an_object_is_refused() {
    assert_eq!(read(COMPLETE_ANSWER).unwrap().networks.len(), 2);
    assert_eq!(read(""), Err(BadAnswer::Nothing { left_out: Vec::new() }));
    let objects =
        COMPLETE_ANSWER.match_indices("route").filter(|(at, _)| COMPLETE_ANSWER[..*at].ends_with("\n\n"));
    for (begin, _) in objects {
        let end = begin + COMPLETE_ANSWER[begin..].find("\n\n").unwrap();
        for length in begin + 1..=end {
            assert_eq!(read(&COMPLETE_ANSWER[..length]), Err(BadAnswer::Truncated), "{length} bytes");
        }
        for length in [end + 1, end + 2] {
            assert!(read(&COMPLETE_ANSWER[..length]).is_ok(), "{length} bytes: the last object is whole");
        }
    }
}

#[test]
fn what_was_found_elsewhere_is_checked_again() {
    let of = |networks: &[&str]| {
        Registered::checked(networks.iter().map(|text| text.parse().unwrap()).collect())
            .map_err(|e| e.to_string())
    };
    assert_eq!(of(&["157.240.0.0/17"]).unwrap().networks.len(), 1);
    assert!(of(&[]).is_err());
    assert!(of(&["157.240.0.0/17", "10.0.0.0/12"]).unwrap_err().contains("10.0.0.0/12"));
}

#[test]
fn line_ends_of_either_kind_and_bytes_of_any() {
    let with_crlf = COMPLETE_ANSWER.replace('\n', "\r\n");
    assert_eq!(read(&with_crlf), read(COMPLETE_ANSWER));
    assert_eq!(read(&with_crlf[..with_crlf.len() - 6]), Err(BadAnswer::Truncated));
    let latin_1 =
        [&COMPLETE_ANSWER.as_bytes()[..COMPLETE_ANSWER.len() - 2], b"descr: Dubl\xedn\n\n\n"].concat();
    assert_eq!(Registered::read(&latin_1).unwrap().networks.len(), 2);
}

#[test]
fn what_a_server_sends_can_not_act_on_a_terminal() {
    let answer = "route: 1.2.3.0/24\norigin: AS32934\nmnt-by: A\u{1b}[2J\u{9b}\nsource: RADB\n\n\n";
    let Err(BadAnswer::Nothing { left_out }) = read(answer) else { panic!() };
    assert_eq!(left_out[0].to_string(), "route 1.2.3.0/24: in RADB, maintained by A?[2J?");
    let long = format!("%% {}\n\n\n", "x".repeat(1000));
    assert_eq!(read(&long).unwrap_err().to_string().len(), "the registry says: ".len() + 80);
}
