//! The event streams of watches, and what befalls them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt, StreamBody};
use kube::client::Body;
use tokio::sync::watch;
use tower::BoxError;

use crate::layer::{Answer, broken};
use crate::plan::Fault;

struct Stream {
    inner: BodyDataStream<Body>,
    /// What has come and is not passed on yet.
    waiting: BytesMut,
    passed: u64,
    fault: Option<Fault>,
    number: u64,
    away: watch::Receiver<bool>,
    crashed: watch::Receiver<bool>,
    ended: bool,
}

pub fn faulty(
    body: Body,
    fault: Option<Fault>,
    number: u64,
    away: watch::Receiver<bool>,
    crashed: watch::Receiver<bool>,
) -> Answer {
    let inner = BodyDataStream::new(body);
    let stream = Stream { inner, waiting: BytesMut::new(), passed: 0, fault, number, away, crashed, ended: false };
    let frames = futures::stream::unfold(stream, |mut stream| async {
        let next = stream.next().await?;
        stream.ended |= next.is_err();
        Some((next.map(Frame::data), stream))
    });
    StreamBody::new(frames).boxed_unsync()
}

impl Stream {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.ended {
            return None;
        }
        if let Some(end) = self.end() {
            self.ended = true;
            return end;
        }
        let event = tokio::select! {
            event = event(&mut self.inner, &mut self.waiting) => event,
            _ = self.away.wait_for(|away| *away) => Some(Err(broken("the watch was cut"))),
        };
        if *self.crashed.borrow() {
            std::future::pending::<()>().await;
        }
        if self.fault == Some(Fault::WatchDelayed) {
            tokio::time::sleep(Duration::from_millis(self.number * 53 % 1500)).await;
        }
        self.passed += 1;
        event
    }

    /// How the stream ends now, if it does.
    fn end(&self) -> Option<Option<Result<Bytes, BoxError>>> {
        if self.passed < self.number % 4 {
            return None;
        }
        match self.fault? {
            Fault::WatchDropped => Some(match self.number % 3 {
                0 => None,
                1 => Some(Err(broken("the watch broke off"))),
                _ => Some(Ok(Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"apiVersion\":"))),
            }),
            Fault::WatchExpired => {
                let gone = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;
                Some(Some(Ok([&gone[..], b"\n"].concat().into())))
            }
            _ => None,
        }
    }
}

/// One line, which is one event.
async fn event(inner: &mut BodyDataStream<Body>, waiting: &mut BytesMut) -> Option<Result<Bytes, BoxError>> {
    loop {
        if let Some(end) = waiting.iter().position(|octet| *octet == b'\n') {
            return Some(Ok(waiting.split_to(end + 1).freeze()));
        }
        match inner.next().await? {
            Ok(more) => waiting.extend_from_slice(&more),
            Err(error) => return Some(Err(error.into())),
        }
    }
}
