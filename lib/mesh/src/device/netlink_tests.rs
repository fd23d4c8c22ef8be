//! Reports as the kernel writes them, as it would never write them, and a change in a network of the test's own.

use std::future::poll_fn;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{MsgFlags, sendto};
use proptest::prelude::*;

use super::*;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const DONE: u16 = 3;

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An IPv4 route to a prefix of this length.
fn route(prefix: u8, table: u8, kind: u8) -> Vec<u8> {
    message(NEW_ROUTE, &[2, prefix, 0, 0, table, 3, 0, kind, 0, 0, 0, 0])
}

#[test]
fn a_default_route_weighs_more_than_everything_around_it() {
    let address = message(NEW_ADDRESS, &[2, 24, 0, 0, 2, 0, 0, 0]);
    assert_eq!(reported(&address), Some(Change::Other));
    assert_eq!(reported(&route(24, MAIN_TABLE, UNICAST)), Some(Change::Other));
    let all = [address, route(0, MAIN_TABLE, UNICAST), route(24, MAIN_TABLE, UNICAST)].concat();
    assert_eq!(reported(&all), Some(Change::DefaultRoute));
}

#[test]
fn a_default_route_of_another_table_or_that_leads_nowhere_is_any_route() {
    assert_eq!(reported(&route(0, 100, UNICAST)), Some(Change::Other));
    assert_eq!(reported(&route(0, MAIN_TABLE, 7)), Some(Change::Other), "unreachable");
}

#[test]
fn other_messages_are_no_report() {
    assert_eq!(reported(&message(DONE, &[0; 4])), None);
    assert_eq!(reported(&[]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_run_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = reported(&bytes);
    }

    #[test]
    fn a_report_that_was_cut_short_is_no_report(at in 0usize..28) {
        prop_assert_eq!(reported(&route(0, MAIN_TABLE, UNICAST)[..at]), None);
    }
}

/// In a network namespace of the thread's own, the loopback interface is brought up by a netlink request.
#[test]
fn the_kernel_reports_an_interface_that_comes_up() {
    let thread = std::thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: a network namespace takes privileges ({error})");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut changes = Netlink::open().unwrap();
            // struct ifinfomsg: family, type, index 1 (loopback), flags IFF_UP, and that flag is the one to change.
            let mut up = vec![0; 4];
            for field in [1u32, 1, 1] {
                up.extend(field.to_ne_bytes());
            }
            let request = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            );
            let request = request.unwrap();
            let mut bytes = message(NEW_LINK, &up);
            // NLM_F_REQUEST
            bytes[6..8].copy_from_slice(&1u16.to_ne_bytes());
            sendto(request.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).unwrap();
            assert_eq!(poll_fn(|cx| changes.poll_change(cx)).await.unwrap(), Change::Other);
        });
    });
    thread.join().unwrap();
}
