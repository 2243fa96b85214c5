//! What fuzzing gives bytes to: all that a client of the Model Context Protocol sends on stdin.
//!
//! Not a part of this crate's interface.
#![allow(missing_docs, reason = "for netmon's own fuzz targets alone")]

use std::{
    io::{self, Cursor},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use netmon_core::Monitor;
use serde_json::Value;
use tokio::{
    io::AsyncWrite,
    runtime::{self, Runtime},
};

use crate::{NetmonServer, serve};

/// As long as anything that ends may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The lines of a client that then goes. Each line that it is told is a message of JSON-RPC.
pub fn lines(bytes: &[u8]) {
    let (runtime, monitor) = server();
    let said = Said::default();
    let serving = serve(
        NetmonServer::new(monitor.clone()),
        Cursor::new(bytes.to_vec()),
        said.clone(),
        std::future::pending(),
    );
    let served = runtime.block_on(async { tokio::time::timeout(PATIENCE, serving).await });
    // A client that does not begin as clients do is an error of its own.
    let _ended = served.expect("it ends when its client goes");
    let said = said.0.lock().unwrap_or_else(PoisonError::into_inner);
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).expect("a line of JSON");
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        // Of a tool, which has to fit into a model's context.
        if let Some(content) = message["result"].get("structuredContent") {
            let size = content.to_string().len();
            assert!(size <= 64 << 10, "a result of {size} bytes");
        }
    }
}

/// Over the demo recording.
fn server() -> &'static (Runtime, Monitor) {
    static SERVER: OnceLock<(Runtime, Monitor)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime, Monitor::replay(demo).expect("the demo recording"))
    })
}

/// What the client is told.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use netmon_testkit::fuzz::try_inputs;

    #[test]
    fn a_client_may_say_anything() {
        try_inputs("mcp", super::lines);
    }
}
