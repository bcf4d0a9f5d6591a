//! Traffic over TCP: the server runs on one CPU, the client on the other.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use palisade_lab::Pod;
use socket2::SockRef;

use crate::measure::{Traffic, pin};
use crate::policies::PORT;

/// Nanoseconds per connection, request or MiB.
pub(crate) fn time(client: &Pod, server: &Pod, address: IpAddr, traffic: Traffic) -> f64 {
    let target = SocketAddr::new(address, PORT);
    let listener = server.run(|| TcpListener::bind(target)).expect("the pod").expect("a port");
    let (count, elapsed) = std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            serve(&listener, traffic);
        });
        let drive = || {
            pin(0);
            drive(target, traffic)
        };
        client.run(drive).expect("the pod")
    });
    elapsed.as_secs_f64() * 1e9 / f64::from(count)
}

/// Answers until a connection sends nothing.
fn serve(listener: &TcpListener, traffic: Traffic) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (mut connection, _) = listener.accept().expect("a connection");
        connection.set_nodelay(true).expect("an option");
        let mut bytes = 0;
        while let Ok(read @ 1..) = connection.read(&mut buffer) {
            bytes += read;
            if traffic != Traffic::Bulk {
                connection.write_all(&[0]).ok();
            }
        }
        if bytes == 0 {
            return;
        }
        if traffic == Traffic::Bulk {
            connection.write_all(&[0]).expect("the end of the stream is acknowledged");
        }
    }
}

/// The number of units, and their time.
fn drive(to: SocketAddr, traffic: Traffic) -> (u32, Duration) {
    let connect = || {
        let connection = TcpStream::connect(to).expect("a connection");
        connection.set_nodelay(true).expect("an option");
        connection
    };
    let exchange = |connection: &mut TcpStream| {
        connection.write_all(&[0]).expect("a request");
        connection.read_exact(&mut [0]).expect("a reply");
    };
    let (count, started);
    match traffic {
        Traffic::Connections => {
            (count, started) = (1_500, Instant::now());
            for _ in 0..count {
                let mut connection = connect();
                exchange(&mut connection);
                // Reset, so that no port stays in TIME_WAIT.
                SockRef::from(&connection).set_linger(Some(Duration::ZERO)).expect("an option");
            }
        }
        Traffic::Requests => {
            let mut connection = connect();
            exchange(&mut connection);
            (count, started) = (4_000, Instant::now());
            (0..count).for_each(|_| exchange(&mut connection));
        }
        _ => {
            let mut connection = connect();
            (count, started) = (256, Instant::now());
            let part = vec![0; 1 << 20];
            (0..count).for_each(|_| connection.write_all(&part).expect("a part"));
            connection.shutdown(Shutdown::Write).expect("the end");
            connection.read_exact(&mut [0]).expect("all has arrived");
        }
    }
    let elapsed = started.elapsed();
    // Ends the server.
    drop(connect());
    (count, elapsed)
}
