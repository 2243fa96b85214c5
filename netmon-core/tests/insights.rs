//! What a model is told of the demo recording, and what becomes of its words.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::Mutex,
    thread,
    time::Duration,
};

use netmon_core::{
    Answer as _, ConnectionsRequest, Control, Monitor, Progress,
    model::Model,
    request::{DiagnoseRequest, InsightsRequest},
};

fn demo() -> Monitor {
    Monitor::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/demo.jsonl")).unwrap()
}

fn asking(question: &str) -> InsightsRequest {
    let mut request = InsightsRequest::default();
    request.question = Some(question.to_owned());
    request
}

/// The address of a server that gives one reply of status 200, or of another.
fn server(status: &'static str, words: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let reply = serde_json::json!({ "choices": [{ "message": { "content": words } }] }).to_string();
        let size = reply.len();
        write!(
            &stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n{reply}"
        )
        .unwrap();
        String::from_utf8(body).unwrap()
    });
    (url, asked)
}

#[test]
fn without_a_model_the_findings_are_the_answer_and_a_hint_says_how() {
    let answer = demo().insights(&asking("why?"), None, &Control::default()).unwrap();
    let diagnosis = demo().diagnose(&DiagnoseRequest::default(), &Control::default()).unwrap();
    assert_eq!(answer.diagnosis, diagnosis);
    assert_eq!(answer.to_string(), diagnosis.to_string());
    assert!(answer.notes().last().unwrap().contains("NETMON_AI_MODEL"), "{:?}", answer.notes());
    assert!(answer.insights.is_none() && answer.model.is_none() && answer.ai_error.is_none());
}

#[test]
fn what_is_sent_names_nobody_and_the_answer_names_them_again() {
    let monitor = demo();
    let words = "private-address-1 refuses process-1.\u{1b}[31m\nIgnore it.";
    let (url, asked) = server("200 OK", words);
    let model = Model::new("small", &url).unwrap().with_key("sk-very-secret");
    let mut request = asking("Why does 10.9.9.9 hate /home/alice/run --key=hunter2 on demo?");
    request.summary_text = Some("Process 'backup' made 3 attempts to db.corp.example:5432".to_owned());
    let seen = Mutex::new(Vec::new());
    let note = |progress: Progress| seen.lock().unwrap().push((progress.elapsed, progress.window));
    let control = Control { progress: Some(&note), ..Control::default() };
    let answer = monitor.insights(&request, Some(&model), &control).unwrap();
    let sent = asked.join().unwrap();

    let mut everything = ConnectionsRequest::default();
    everything.since = Some(Duration::from_secs(3600));
    let connections = monitor.connections(&everything, &Control::default()).unwrap();
    let mut secrets: Vec<String> =
        ["sk-very-secret", "10.9.9.9", "alice", "hunter2", "backup", "corp", "\"demo\"", "on demo"]
            .map(str::to_owned)
            .to_vec();
    for row in &connections.connections {
        secrets.extend(row.remote.as_ref().map(|remote| remote.address.to_string()));
        if let Some(process) = &row.process {
            secrets.push(format!("\"{}\"", process.comm));
            secrets.extend(process.exe.as_ref().map(ToString::to_string));
            secrets.extend(process.cmdline.as_ref().map(ToString::to_string));
        }
    }
    secrets.retain(|secret| secret != "127.0.0.1" && secret != "::1" && !secret.is_empty());
    assert!(secrets.len() > 20, "{secrets:?}");
    for secret in &secrets {
        assert!(!sent.contains(secret.as_str()), "{secret}: {sent}");
    }
    assert!(sent.contains("ECONNREFUSED") && sent.contains("port 5432"), "{sent}");

    let told = answer.insights.as_ref().unwrap().as_str();
    assert!(!told.contains("process-1") && !told.contains("private-address-1"), "{told}");
    assert!(told.ends_with(".\\x1b[31m\nIgnore it."), "{told}");
    assert!(answer.to_string().starts_with(told));
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted(), "{seen:?}");

    request.dry_run = true;
    let dry = monitor.insights(&request, Some(&model), &Control::default()).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&sent).unwrap(), dry.payload.unwrap());
}

#[test]
fn whoever_is_named_in_a_question_is_hidden_though_not_among_the_findings() {
    let model = Model::new("small", "http://127.0.0.1:1/v1").unwrap();
    let mut request = asking(
        "Why does mailer for nobody talk to backupbox on demo, and what do nginx, sshd and mainproc do?",
    );
    request.filter.process = Some("mailer".to_owned());
    request.filter.user = Some("nobody".to_owned());
    request.dry_run = true;
    let payload = demo().insights(&request, Some(&model), &Control::default()).unwrap().payload.unwrap();
    let sent = payload["messages"][1]["content"].as_str().unwrap();
    for name in ["mailer", "nobody", "demo", "nginx", "sshd", "mainproc"] {
        assert!(!sent.contains(name), "{name}: {sent}");
    }
    assert!(sent.contains("talk to backupbox on host-1"), "what no one knows stays: {sent}");
}

#[test]
fn a_model_that_fails_leaves_the_findings_and_says_why() {
    let (url, asked) = server("500 Internal Server Error", "");
    let model = Model::new("small", &url).unwrap();
    let answer = demo().insights(&asking("why?"), Some(&model), &Control::default()).unwrap();
    asked.join().unwrap();
    assert_eq!(answer.ai_error.as_deref(), Some("it answered 500 Internal Server Error"));
    assert!(!answer.diagnosis.findings.is_empty());
    assert!(answer.notes().iter().any(|note| note.contains("small") && note.contains("500")));
}

#[test]
fn what_would_be_sent_is_shown_before_a_model_is_chosen() {
    let mut request = asking("why?");
    request.dry_run = true;
    let answer = demo().insights(&request, None, &Control::default()).unwrap();
    let named = Model::new("the model of your choice", "http://localhost:1").unwrap();
    let chosen = demo().insights(&request, Some(&named), &Control::default()).unwrap();
    assert_eq!(answer.payload, chosen.payload);
    assert_eq!((&answer.model, &answer.insights), (&None, &None));
    assert!(answer.notes().iter().any(|note| note.contains("NETMON_AI_MODEL")), "{:?}", answer.notes());
}

#[test]
fn texts_have_a_limit() {
    let error = demo().insights(&asking(&"x".repeat(2001)), None, &Control::default()).unwrap_err();
    assert_eq!(error.to_string(), "question has 2001 characters; it may have up to 2000");
}
