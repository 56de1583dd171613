//! An etcd to compare with, where there is one: `ETCD` names it, or it is in the `PATH`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::wire::Connection;

pub struct Etcd {
    child: Child,
    pub version: String,
    pub client: String,
    _data: TempDir,
}

impl Etcd {
    /// A single member with its defaults, on the disk where the other homes lie; `None` where there is no etcd.
    pub async fn start() -> Option<Self> {
        let binary = std::env::var("ETCD").unwrap_or_else(|_| "etcd".to_owned());
        let version = Command::new(&binary).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next()?.to_owned();
        let data = tempfile::Builder::new().prefix("kina-bench-etcd-").tempdir().expect("a temporary directory");
        let [client, peer] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let mut child = Command::new(&binary)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--logger", "zap", "--log-level", "error", "--name", "bench"])
            .args(["--listen-client-urls", &format!("http://{client}"), "--advertise-client-urls"])
            .arg(format!("http://{client}"))
            .args(["--listen-peer-urls", &format!("http://{peer}"), "--initial-advertise-peer-urls"])
            .args([&format!("http://{peer}"), "--initial-cluster", &format!("bench=http://{peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = BufReader::new(child.stderr.take()?);
        std::thread::spawn(move || {
            let mut line = String::new();
            while said.read_line(&mut line).is_ok_and(|read| read > 0) {
                eprint!("etcd: {line}");
                line.clear();
            }
        });
        let etcd = Self { child, version, client, _data: data };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if let Ok(connection) = Connection::plain(&etcd.client).await
                && put(&connection, "begin", b"").await
            {
                return Some(etcd);
            }
            sleep(Duration::from_millis(100)).await;
        }
        eprintln!("etcd does not answer: it is left out");
        None
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// `etcdserverpb.KV/Put` with a key and a value; whether it was done.
pub async fn put(connection: &Connection, key: &str, value: &[u8]) -> bool {
    let mut message = BytesMut::new();
    for (field, bytes) in [(1_u8, key.as_bytes()), (2, value)] {
        message.put_u8(field << 3 | 2);
        varint(&mut message, bytes.len());
        message.put_slice(bytes);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a short message"));
    frame.put_slice(&message);
    let answer = connection.send("POST", "/etcdserverpb.KV/Put", "application/grpc", Bytes::from(frame)).await;
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").map(|status| status == "0");
    let early = status(answer.headers());
    let body = answer.into_body().collect().await.expect("an answer of etcd");
    early.or_else(|| status(body.trailers()?)).unwrap_or(false)
}

fn varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
