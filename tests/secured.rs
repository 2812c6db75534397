//! Tokens, certificates, secrets, and clients that mean no good, against the program as it runs.

#[path = "support/shop.rs"]
mod shop;

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use shop::{Server, Shop, tensor};

fn tidemill(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["--output", "json"])
        .args(arguments)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A token and its entry.
fn token(name: &str, role: &str) -> (String, String) {
    let told = tidemill(&["token", name, "--role", role]);
    let text = |key: &str| told[key].as_str().expect("a text").to_string();
    (text("token"), text("entry"))
}

fn python(script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/secured").join(script);
    let done = Command::new("python3").arg(script).args(arguments).output().expect("python3");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.ends_with("all is well\n"), "{said}");
}

/// Everything that a run has written, as text.
fn written(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => text += &written(&path),
            false => text += &String::from_utf8_lossy(&std::fs::read(&path).expect("a file")),
        }
    }
    text
}

#[test]
fn no_secret_is_in_a_log_a_metric_an_error_or_a_journal() {
    let shop = Shop::new();
    let (ann, entry) = token("ann", "viewer");
    let (bob, other) = token("bob", "operator");
    let file = shop.path("tokens.toml");
    std::fs::write(&file, format!("{entry}{other}")).expect("tokens");
    let mut command = shop.command(&["--tokens", &file.display().to_string()]);
    command.env("TIDEMILL_LOG", "trace");
    let server = Server::start(command);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let infer = json!({"inputs": [tensor("card", "BYTES", json!(["c1"]))]}).to_string();
    let mut said = String::new();
    let mut send = |method: &str, path: &str, token: &str, body: &str| {
        let (status, text) = server.send(method, path, &bearer(token), body);
        said += &text;
        status
    };
    let wrong = "tm_0123456789abcdef";
    assert_eq!(send("POST", "/v2/models/shop/infer", &ann, &infer), 200);
    assert_eq!(send("POST", "/v2/models/shop/infer", wrong, &infer), 401);
    assert_eq!(send("POST", "/v2/models/shop/infer", &ann, "{"), 400);
    assert_eq!(send("POST", "/v2/repository/models/online/unload", &ann, ""), 403);
    assert_eq!(send("POST", "/v2/repository/models/online/unload", &bob, ""), 200);
    assert_eq!(send("POST", "/v2/repository/models/online/load", &bob, ""), 200);
    assert_eq!(send("GET", "/nowhere", &ann, ""), 404);
    let metrics = send("GET", "/metrics", &ann, "");
    assert_eq!(metrics, 200);
    said += &server.log();
    let hashes: Vec<String> = [entry, other]
        .iter()
        .filter_map(|entry| entry.split("sha256 = \"").nth(1)?.get(..64).map(str::to_string))
        .collect();
    assert_eq!(hashes.len(), 2);
    server.stop();
    let kept = written(&shop.path("out"));
    for secret in [&ann, &bob, wrong].into_iter().chain(hashes.iter().map(String::as_str)) {
        let part = &secret[..secret.len().min(19)];
        assert!(!said.contains(part), "`{part}` was said");
        assert!(!kept.contains(part), "`{part}` was written");
    }
    // Who did what, and who was refused, is on record.
    for record in ["unload model online", "load model online", "the role of `ann` is viewer"] {
        assert!(kept.contains(record), "no `{record}` in the access journal");
    }
    let access = shop.path("out/access").display().to_string();
    assert!(tidemill(&["journal", "verify", &access]).is_object());
}

#[test]
fn a_server_that_others_can_reach_wants_to_know_who_calls() {
    let shop = Shop::new();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(shop.path("shop.toml")).arg("--folder").arg(shop.path("out"));
        let output = command.args(more).output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["--serve", "0.0.0.0:0"]);
    assert!(code == Some(78) && said.contains("tidemill token"), "{said}");
    let (code, said) = run(&["--serve", "127.0.0.1:0", "--tokens", "nowhere.toml"]);
    assert!(code == Some(78) && said.contains("nowhere.toml"), "{said}");
    std::fs::write(shop.path("bad.toml"), "[[caller]]\nname = \"a\"\nrole = \"king\"\n")
        .expect("a file");
    let bad = shop.path("bad.toml").display().to_string();
    let (code, said) = run(&["--serve", "127.0.0.1:0", "--tokens", &bad]);
    assert!(code == Some(78) && said.contains("`king`"), "{said}");
}

/// An authority and a certificate that it signed, as PEM: its certificate, theirs, their key; and the
/// hash of theirs.
fn certificate(names: &[&str]) -> (String, String, String, String) {
    use sha2::Digest;
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut above = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    // Of one name they would look as if each had signed itself.
    above.distinguished_name.push(DnType::CommonName, format!("authority of {}", names[0]));
    above.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = above.self_signed(&key).expect("signed");
    let issuer = Issuer::new(above, key);
    let own = KeyPair::generate().expect("a key");
    let mut below = CertificateParams::new(names.clone()).expect("parameters");
    below.distinguished_name.push(DnType::CommonName, names[0].as_str());
    let signed = below.signed_by(&own, &issuer).expect("signed");
    let hash = tidemill_types::schema::hex(&sha2::Sha256::digest(signed.der()));
    (authority.pem(), signed.pem(), own.serialize_pem(), hash)
}

#[test]
fn callers_are_known_by_their_certificates() {
    let shop = Shop::new();
    let (server_ca, server_cert, server_key, _) = certificate(&["localhost", "127.0.0.1"]);
    let (client_ca, client_cert, client_key, hash) = certificate(&["ann"]);
    let (_, stranger_cert, stranger_key, _) = certificate(&["eve"]);
    let entry =
        format!("[[caller]]\nname = \"ann\"\nrole = \"viewer\"\ncertificate_sha256 = \"{hash}\"\n");
    let files = [
        ("server-ca", server_ca),
        ("server", server_cert),
        ("server-key", server_key),
        ("client-ca", client_ca),
        ("client", client_cert),
        ("client-key", client_key),
        ("stranger", stranger_cert),
        ("stranger-key", stranger_key),
        ("tokens", entry),
    ];
    for (name, text) in &files {
        std::fs::write(shop.path(&format!("{name}.pem")), text).expect("a file");
    }
    let path = |name: &str| shop.path(&format!("{name}.pem")).display().to_string();
    let server = shop.serve(&[
        "--tls-cert",
        &path("server"),
        "--tls-key",
        &path("server-key"),
        "--tls-client-ca",
        &path("client-ca"),
        "--tokens",
        &path("tokens"),
    ]);
    python("tls.py", &[&server.address, &shop.path("").display().to_string()]);
    server.stop();
}

#[test]
fn ten_thousand_idle_and_half_sent_connections_take_no_memory() {
    let shop = Shop::new();
    let plain = shop.command(&[]);
    // The system's limit of open files is a connection's too.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"]);
    command.arg(plain.get_program()).args(plain.get_args());
    let server = Server::start(command);
    let before = server.resident();
    let mut clients = Command::new("python3");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/secured/idle.py");
    clients.arg(script).arg(&server.address).stdin(std::process::Stdio::piped());
    let mut clients = clients.stdout(std::process::Stdio::piped()).spawn().expect("python3");
    let mut lines = std::io::BufReader::new(clients.stdout.take().expect("its output"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).expect("a line");
    let open: u64 = line.trim().parse().unwrap_or_else(|_| panic!("`{line}` is no number"));
    assert!(open >= 1_000, "only {open} connections can be opened here");
    let grown = server.resident().saturating_sub(before);
    let (status, answer) = server.post(
        "/v2/models/shop/infer",
        &json!({"inputs": [tensor("card", "BYTES", json!(["c1"]))]}),
    );
    assert_eq!(status, 200, "{answer}");
    drop(clients.stdin.take());
    assert!(clients.wait().is_ok_and(|status| status.success()), "the clients failed");
    eprintln!("{open} connections take {} bytes each", grown / open);
    assert!(grown / open < 40_000, "{open} connections took {grown} bytes");
    server.stop();
}
