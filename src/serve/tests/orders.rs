//! Orders about models over HTTP: whose are taken, and which.

use serde_json::{Value as Json, json};

use super::super::access::{Callers, Role};
use super::{everybody, send, start};

const PROMOTE: &str = "/api/v1/models/online/promote";

fn order(server: &super::Server, path: &str, headers: &str, body: &Json) -> (u16, Json) {
    let (status, text) = send(server, "POST", path, headers, body.to_string().as_bytes());
    (status, serde_json::from_str(&text).unwrap_or(Json::String(text)))
}

const JSON: &str = "content-type: application/json\r\n";

#[test]
fn an_order_says_who_what_and_why() {
    let server = start(true, |options, _| options.callers = everybody());
    let token = format!("{JSON}authorization: Bearer token of approver\r\n");
    for (path, body, what) in [
        (PROMOTE, json!({"version": 3, "why": " it is good "}), "Promote(3)"),
        ("/api/v1/models/online/rollback", json!({"why": "it is bad"}), "RollBack(None)"),
        ("/api/v1/models/online/rollback", json!({"version": 2, "why": "w"}), "RollBack(Some(2))"),
        ("/api/v1/models/online/approve", json!({"version": 3, "why": "w"}), "Approve(3)"),
        ("/api/v1/models/online/retrain", json!({"why": "w"}), "Retrain"),
    ] {
        let (status, answer) = order(&server, path, &token, &body);
        assert_eq!((status, &answer["what"]), (200, &json!(what)), "{answer}");
        assert_eq!((&answer["who"], &answer["proof"]), (&json!("approver"), &json!(true)));
        assert_eq!(answer["why"], json!(body["why"].as_str().unwrap_or_default().trim()));
    }
    for (body, status, why) in [
        (json!({"why": "w"}), 400, "version"),
        (json!({"version": 3}), 400, "why"),
        (json!({"version": 3, "why": "  "}), 400, "why"),
        (json!({"version": 3, "why": "a\nb"}), 400, "one line"),
        (json!({"version": 3, "why": "x".repeat(301)}), 400, "300"),
        (json!({"version": -1, "why": "w"}), 400, "no order"),
        (json!({"version": 3, "why": "w", "who": "somebody else"}), 400, "who"),
    ] {
        let (code, answer) = order(&server, PROMOTE, &token, &body);
        let said = answer["error"].as_str().unwrap_or_default();
        assert!(code == status && said.contains(why), "{body}: {code} {answer}");
    }
    let none =
        order(&server, "/api/v1/models/none/promote", &token, &json!({"version": 1, "why": "w"}));
    assert_eq!(none.0, 409, "{}", none.1);
}

/// A page from elsewhere can make the browser of whoever is on the machine send things.
#[test]
fn orders_of_foreign_pages_are_not_taken() {
    let server = start(true, |options, _| {
        options.callers = std::sync::Arc::new(Callers::anonymous(Some(Role::Admin)));
    });
    let body = json!({"version": 3, "why": "w"});
    let order = |headers: &str| order(&server, PROMOTE, headers, &body).0;
    // `send` calls the host `test`.
    assert_eq!(order(JSON), 200, "no page at all");
    assert_eq!(order(&format!("{JSON}origin: http://evil.example\r\n")), 403);
    assert_eq!(order(&format!("{JSON}origin: null\r\n")), 403);
    assert_eq!(order(&format!("{JSON}origin: http://test\r\n")), 403, "a name that points here");
    assert_eq!(order("content-type: text/plain\r\n"), 415, "what a form may send");
    assert_eq!(order(""), 415);
    let server = start(true, |options, _| options.callers = everybody());
    let own = format!("{JSON}origin: http://test\r\nauthorization: Bearer token of operator\r\n");
    assert_eq!(super::send(&server, "POST", PROMOTE, &own, body.to_string().as_bytes()).0, 200);
}
