use std::cell::Cell;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::net::{Buffers, Limits};

/// Two ends of a connection.
async fn connection() -> [TcpStream; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    [one, listener.accept().await.unwrap().0]
}

const CHUNKS: usize = 20_000;

/// A pump with [`CHUNKS`] to move, of a byte each, that have come already; and the client's end.
async fn busy_pump() -> (Pump, Socket, Stream, TcpStream) {
    let ([mut client, source], [sink, mut upstream]) = (connection().await, connection().await);
    tokio::spawn(async move { tokio::io::copy(&mut upstream, &mut tokio::io::sink()).await });
    client.write_all(&b"1\r\nx\r\n".repeat(CHUNKS)).await.unwrap();
    source.readable().await.unwrap();
    let buffers = Buffers::new(Limits { free: 4, large: 1, pipes: 1 });
    let source = Socket::new(Stream::Plain(source), &buffers);
    let pump = Pump::new(Vec::new(), Decoder::new(Framing::Chunked, u64::MAX), true, Instant::now());
    (pump, source, Stream::Plain(sink), client)
}

#[tokio::test]
async fn a_turn_ends_after_some_thousand_chunks() {
    let (mut pump, mut source, mut sink, _client) = busy_pump().await;
    let mut turns = 0;
    let mut most = 0;
    while pump.moved.bytes() < CHUNKS as u64 {
        let before = pump.moved.bytes();
        std::future::poll_fn(|cx| {
            let polled = pump.poll(cx, &mut source, &mut sink);
            assert!(polled.is_pending(), "{polled:?}");
            Poll::Ready(())
        })
        .await;
        most = most.max(pump.moved.bytes() - before);
        turns += 1;
        yield_now().await;
    }
    let expected = TURN_BYTES / CHUNK_BYTES;
    assert!((expected / 2..2 * expected).contains(&most), "{most} chunks in one of {turns} turns");
}

/// As in a worker thread, whose connections are local tasks.
#[tokio::test]
async fn the_runtime_looks_at_the_sockets_between_two_turns() {
    let looks = Rc::new(Cell::new(0));
    let counted = Rc::clone(&looks);
    // It goes on each time when the runtime has looked.
    let counting = async move {
        loop {
            yield_now().await;
            counted.set(counted.get() + 1);
        }
    };
    let pumping = async {
        let (mut pump, mut source, mut sink, _client) = busy_pump().await;
        let mut turns = 0;
        std::future::poll_fn(|cx| {
            assert!(pump.poll(cx, &mut source, &mut sink).is_pending());
            turns += 1;
            if pump.moved.bytes() < CHUNKS as u64 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        turns
    };
    let tasks = LocalSet::new();
    let turns = tasks.run_until(async {
        let pumping = spawn_local(pumping);
        drop(spawn_local(counting));
        pumping.await
    });
    let turns = turns.await.unwrap();
    let looks = looks.get();
    assert!(turns > 2 && looks + 2 >= turns, "{turns} turns, {looks} looks at the sockets");
}
