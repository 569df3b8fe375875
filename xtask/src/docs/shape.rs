//! Whether an example of a document has the fields that the real one has.

use std::collections::BTreeSet;

use serde_json::Value;

/// Objects whose keys are data.
const OPEN: [&str; 5] = ["codes", "errors", "kernel_drops", "refused", "tls_handshakes"];

/// The fields of `example` that `real` does not have, or has as something else. What is null or
/// empty in one of them says nothing.
pub fn missing(example: &Value, real: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    compare("", example, &[real], &mut missing);
    missing
}

fn compare(path: &str, example: &Value, real: &[&Value], missing: &mut Vec<String>) {
    let real: Vec<&Value> = real.iter().copied().filter(|value| !value.is_null()).collect();
    let Some(first) = real.first().filter(|_| !example.is_null()) else { return };
    match example {
        Value::Object(fields) if real.iter().all(|value| value.is_object()) => {
            for (name, value) in fields {
                let there: Vec<&Value> = real.iter().filter_map(|object| object.get(name)).collect();
                let path = format!("{path}.{name}");
                if !there.is_empty() {
                    compare(&path, value, &there, missing);
                } else if !OPEN.iter().any(|open| path.ends_with(&format!(".{open}.{name}"))) {
                    missing.push(format!("{path} is not in the real document"));
                }
            }
        }
        Value::Array(values) if real.iter().all(|value| value.is_array()) => {
            let inside: Vec<&Value> = real.iter().filter_map(|value| value.as_array()).flatten().collect();
            values.iter().for_each(|value| compare(&format!("{path}[]"), value, &inside, missing));
        }
        _ if kind(example) != kind(first) => {
            missing.push(format!("{path} is {} in the real document", kind(first)));
        }
        _ => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The names of all fields of a document, except names that are data.
pub fn fields(document: &Value) -> BTreeSet<&str> {
    match document {
        Value::Object(fields_here) => {
            let names = fields_here.keys().map(String::as_str);
            let inside = fields_here.iter().filter(|(name, _)| !OPEN.contains(&name.as_str()));
            names.chain(inside.flat_map(|(_, value)| fields(value))).collect()
        }
        Value::Array(values) => values.iter().flat_map(fields).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_example_has_too_much_is_told() {
        let real =
            json!({ "version": 1, "list": [{ "a": 1 }, { "a": 2, "b": null }], "codes": {}, "none": [] });
        let good = json!({ "version": 1, "list": [{ "a": 7, "b": { "c": 1 } }], "codes": { "200": 1 }, "none": [{ "x": 1 }] });
        assert_eq!(missing(&good, &real), [""; 0]);
        let bad = json!({ "version": "1", "list": [{ "c": 1 }], "other": {} });
        assert_eq!(missing(&bad, &real).len(), 3);
        assert_eq!(
            fields(&real).into_iter().collect::<Vec<_>>(),
            ["a", "b", "codes", "list", "none", "version"]
        );
    }
}
