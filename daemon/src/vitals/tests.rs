//! Samples of the machine the tests run on, and what is made of values that make no sense.

use synesis_proto::{control, mesh};
use synesis_supervise::{HealthBoard, State};
use tokio_util::sync::CancellationToken;

use super::sampler::fraction;
use super::*;

#[test]
fn the_first_sample_has_no_cpu_and_the_second_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut sampler = Sampler::new(folder.path().to_owned());
    let first = sampler.sample();
    assert_eq!(first.cpu, None, "one reading of a counter is no usage");
    let second = sampler.sample();
    assert!(second.cpu.is_some_and(|cpu| (0.0..=1.0).contains(&cpu)), "{second:?}");
    assert!(second.memory.is_some_and(|memory| memory > 0.0 && memory < 1.0), "{second:?}");
    assert!(second.disk.is_some_and(|disk| (0.0..=1.0).contains(&disk)), "{second:?}");
    assert!(second.uptime_s.is_some() && second.load.is_some(), "{second:?}");
}

#[test]
fn what_cannot_be_read_is_absent_and_never_zero() {
    assert_eq!(fraction(1.0, 0.0), None);
    assert_eq!(fraction(f64::NAN, 1.0), None);
    assert_eq!(fraction(3.0, 2.0), Some(1.0));
    let mut sampler = Sampler::new(PathBuf::from("/nonexistent"));
    let sample = sampler.sample();
    assert_eq!(sample.disk, None);
    let local = control::v1::Vitals::from(&sample);
    assert_eq!((local.disk, local.cpu), (None, None));
    assert!(local.sampled_at.ends_with('Z'), "{}", local.sampled_at);
    let tunnel = mesh::v1::Vitals::from(&sample);
    assert_eq!((tunnel.disk, tunnel.cpu), (None, None));
}

#[tokio::test]
async fn the_subsystem_publishes_samples_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sampling, mut feeds) = VitalsSampling::new(Duration::from_millis(5), folder.path().to_owned());
    let (board, stop) = (HealthBoard::new(), CancellationToken::new());
    let cx = Context::detached(&board, "vitals", stop.clone());
    let watch = async {
        feeds
            .vitals
            .wait_for(|sample| sample.as_ref().is_some_and(|sample| sample.cpu.is_some()))
            .await
            .unwrap();
        assert!(feeds.for_tunnel.borrow().is_some());
        assert_eq!(board.snapshot()[0].state, State::Ready);
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(sampling.run(&cx), watch);
    ended.unwrap();
}
