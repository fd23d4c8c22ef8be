//! Answers by themselves: whoever reads them gets every frame once, in order, whatever happens to the readers; and all of
//! them together stay within their memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use synesis_mesh::frame;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_supervise::{Context, HealthBoard, Subsystem};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use super::answer::{LIMIT, Missed};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn settings(folder: &TempDir) -> Settings {
    Settings {
        grace: MINUTE,
        keep: 10 * MINUTE,
        limits: Limits { answer: 4 << 20, total: 64 << 20 },
        spool: folder.path().join("answers"),
    }
}

/// Answers with their keeper running.
struct World {
    answers: Answers,
    folder: TempDir,
    stop: CancellationToken,
    keeper: JoinSet<()>,
}

impl World {
    fn start() -> Self {
        Self::with(TempDir::new().unwrap(), |_| {})
    }

    fn with(folder: TempDir, adjust: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(&folder);
        adjust(&mut settings);
        let (answers, mut keeper) = Answers::new(settings, Clock::system());
        let stop = CancellationToken::new();
        let cx = Context::detached(&HealthBoard::new(), "answers", stop.clone());
        let mut running = JoinSet::new();
        running.spawn(async move { keeper.run(&cx).await.unwrap() });
        Self { answers, folder, stop, keeper: running }
    }

    /// Stops in order; the folder is what is left.
    async fn stopped(mut self) -> TempDir {
        self.stop.cancel();
        self.keeper.join_next().await.unwrap().unwrap();
        self.folder
    }

    fn files(&self) -> Vec<PathBuf> {
        files(&self.folder)
    }

    /// Waits until there are so many files.
    async fn reaches(&self, files: usize) {
        while self.files().len() != files {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn new_answer(&self, key: RequestKey) -> Arc<Answer> {
        match self.answers.enter(key, IDENTITY) {
            Entered::New(answer) => answer,
            _ => panic!("it is new"),
        }
    }

    /// An answer that is finished as soon as it is begun.
    async fn finished(&self, key: RequestKey, texts: &[&str]) -> Arc<Answer> {
        let answer = self.new_answer(key);
        let (made, texts) = (Arc::clone(&answer), texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        self.answers
            .start(&answer, async move {
                make(&made, &texts).await;
                finish(&made, texts.len() as u64);
            })
            .await
            .unwrap();
        answer
    }
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join("answers"));
    entries.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

const IDENTITY: Identity = Identity { redacted_hash: [1; 32], request_hash: [2; 32] };

fn key(device: u128, request: u128) -> RequestKey {
    RequestKey { device: Uuid::from_u128(device), request_id: Ulid(request) }
}

async fn make(answer: &Answer, texts: &[String]) {
    answer.accept(v1::AskAccepted { model: "big".to_owned(), held_nanousd: 7, price_version: 1 });
    for (seq, text) in (1..).zip(texts) {
        answer.push(v1::AskDelta { seq, text: text.clone() }).await.unwrap();
    }
}

fn finish(answer: &Answer, seq: u64) {
    answer.finish(v1::AskFinished { seq, reason: "stop".to_owned(), ..v1::AskFinished::default() }).unwrap();
    let receipt = |seq| Down::Receipt(v1::AskReceipt { signed_receipt: vec![9; 200].into(), seq });
    answer.end(receipt, Ended::Charged);
}

fn decoded(bytes: &mut BytesMut) -> Vec<Down> {
    let mut all = Vec::new();
    while let Some(down) = frame::decode::<v1::AskDown>(bytes, LIMIT).unwrap() {
        all.push(down.message.unwrap());
    }
    assert!(bytes.is_empty(), "whole frames only");
    all
}

/// Reads to the end.
async fn rest(reader: &mut Reader) -> Vec<Down> {
    let (mut all, mut frames) = (Vec::new(), BytesMut::new());
    loop {
        match reader.next(&mut frames).await {
            Read::Frames => all.extend(decoded(&mut frames)),
            Read::End => return all,
            Read::Superseded => panic!("nobody else reads"),
        }
    }
}

fn text(frames: &[Down]) -> String {
    frames
        .iter()
        .filter_map(|down| if let Down::Delta(delta) = down { Some(delta.text.as_str()) } else { None })
        .collect()
}

#[tokio::test]
async fn a_reader_of_any_frame_on_gets_the_acceptance_and_exactly_the_rest() {
    let world = World::start();
    let answer = world.finished(key(1, 1), &["a", "b", "c"]).await;
    let whole = rest(&mut answer.read(1).unwrap()).await;
    assert_eq!(whole.len(), 1 + 3 + 2);
    assert!(matches!(&whole[5], Down::Receipt(receipt) if receipt.seq == 5), "frames are counted: {whole:?}");
    for from in 1..=6_u64 {
        let frames = rest(&mut answer.read(from).unwrap()).await;
        assert_eq!(frames[0], whole[0], "acceptance first");
        assert_eq!(frames[1..], whole[usize::try_from(from).unwrap()..], "from {from}");
    }
    assert_eq!(answer.read(0).err(), Some(Missed));
    assert_eq!(answer.read(7).err(), Some(Missed), "nobody can have had more than there is");
}

#[tokio::test]
async fn a_reader_that_comes_while_it_is_made_waits_for_each_piece() {
    let world = World::start();
    let answer = world.new_answer(key(1, 1));
    let mut reader = answer.read(1).unwrap();
    let (frames, ()) = tokio::join!(rest(&mut reader), async {
        for (seq, text) in [(1, "one "), (2, "two")] {
            answer.accept(v1::AskAccepted::default());
            answer.push(v1::AskDelta { seq, text: text.to_owned() }).await.unwrap();
            tokio::task::yield_now().await;
        }
        finish(&answer, 2);
    });
    assert_eq!(text(&frames), "one two");
}

#[tokio::test]
async fn the_newest_reader_takes_over_and_the_old_one_has_no_say_any_more() {
    let world = World::start();
    let answer = world.new_answer(key(1, 1));
    let mut old = answer.read(1).unwrap();
    let new = answer.read(1).unwrap();
    assert_eq!(old.next(&mut BytesMut::new()).await, Read::Superseded);
    old.say().cancel(Cancel::Gone);
    drop(old);
    let unwanted = answer.unwanted(MINUTE);
    let mut unwanted = std::pin::pin!(unwanted);
    assert!(futures_util::poll!(unwanted.as_mut()).is_pending(), "somebody reads it");
    new.say().cancel(Cancel::Asked);
    assert_eq!(unwanted.await, Cancel::Asked);
}

#[tokio::test(start_paused = true)]
async fn a_running_answer_goes_on_without_a_reader_for_the_grace_and_no_longer() {
    let world = World::start();
    let answer = world.new_answer(key(1, 1));
    let reader = answer.read(1).unwrap();
    let watch = async { (answer.unwanted(MINUTE).await, Instant::now()) };
    let begun = Instant::now();
    let ((why, at), ()) = tokio::join!(watch, async {
        tokio::time::sleep(10 * MINUTE).await;
        drop(reader);
        tokio::time::sleep(MINUTE / 2).await;
        let back = answer.read(1).unwrap();
        tokio::time::sleep(2 * MINUTE).await;
        drop(back);
    });
    assert_eq!(why, Cancel::Abandoned);
    assert_eq!(at - begun, 10 * MINUTE + MINUTE / 2 + 2 * MINUTE + MINUTE);
}

#[tokio::test]
async fn the_same_request_is_known_another_one_is_not_and_a_spent_one_may_run_again() {
    let world = World::start();
    let answer = world.new_answer(key(1, 1));
    assert!(
        matches!(world.answers.enter(key(1, 1), IDENTITY), Entered::Known(known) if Arc::ptr_eq(&known, &answer))
    );
    let other = Identity { request_hash: [3; 32], ..IDENTITY };
    assert!(matches!(world.answers.enter(key(1, 1), other), Entered::Other));
    assert!(world.answers.find(&key(2, 1)).is_none(), "another device's");
    answer.end(|_| Down::Problem(v1::Problem::default()), Ended::Free);
    assert!(matches!(world.answers.enter(key(1, 1), IDENTITY), Entered::Known(_)), "nobody was told");
    rest(&mut answer.read(1).unwrap()).await;
    assert!(matches!(world.answers.enter(key(1, 1), IDENTITY), Entered::New(_)));
}

#[tokio::test]
async fn a_device_can_have_only_so_many_answers_running() {
    let world = World::start();
    let running: Vec<_> = (0..MOST_RUNNING as u128).map(|n| world.new_answer(key(1, n))).collect();
    assert!(matches!(world.answers.enter(key(1, 99), IDENTITY), Entered::TooMany));
    assert!(matches!(world.answers.enter(key(2, 99), IDENTITY), Entered::New(_)));
    finish(&running[0], 0);
    assert!(matches!(world.answers.enter(key(1, 99), IDENTITY), Entered::New(_)));
}

#[tokio::test]
async fn a_confirmed_answer_never_touches_the_disk_and_an_unconfirmed_one_does_until_it_is() {
    let world = World::start();
    let quick = world.finished(key(1, 1), &["a"]).await;
    let mut reader = quick.read(1).unwrap();
    rest(&mut reader).await;
    world.answers.forget(&quick);
    drop(reader);
    let slow = world.finished(key(1, 2), &["b"]).await;
    world.reaches(1).await;
    assert!(world.files()[0].to_str().unwrap().contains(&Ulid(2).to_string()));
    world.answers.forget(&slow);
    world.reaches(0).await;
    assert_eq!((world.answers.count(), world.answers.memory()), (0, 0));
}

#[tokio::test]
async fn finished_answers_are_there_for_the_next_process() {
    let world = World::start();
    let answer = world.finished(key(1, 1), &["red", "acted"]).await;
    let whole = rest(&mut answer.read(1).unwrap()).await;
    let folder = world.stopped().await;
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&folder.path().join("answers")), mode(&files(&folder)[0])), (0o700, 0o600));

    let world = World::with(folder, |_| {});
    let answer = found(&world, key(1, 1)).await;
    assert!(matches!(world.answers.enter(key(1, 1), IDENTITY), Entered::Known(_)));
    assert_eq!(rest(&mut answer.read(1).unwrap()).await, whole);
    assert_eq!(rest(&mut answer.read(4).unwrap()).await[1..], whole[4..]);
    world.answers.forget(&answer);
    world.reaches(0).await;
}

/// The answer, as soon as the keeper has read it back.
async fn found(world: &World, key: RequestKey) -> Arc<Answer> {
    loop {
        if let Some(answer) = world.answers.find(&key) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn damaged_files_and_what_is_no_answer_are_deleted_and_the_others_are_read() {
    let world = World::start();
    for n in 1..=4 {
        world.finished(key(1, n), &["text"]).await;
    }
    let folder = world.stopped().await;
    let file = |n: u128| folder.path().join(format!("answers/{}.{}.answer", Uuid::from_u128(1), Ulid(n)));
    let content = std::fs::read(file(1)).unwrap();
    let mut flipped = content.clone();
    flipped[content.len() / 2] ^= 1;
    std::fs::write(file(1), flipped).unwrap();
    std::fs::write(file(2), &content[..content.len() - 1]).unwrap();
    std::fs::rename(file(3), file(5)).unwrap();
    std::fs::write(folder.path().join("answers/half.new"), "half").unwrap();
    let world = World::with(folder, |_| {});
    found(&world, key(1, 4)).await;
    world.reaches(1).await;
    for n in [1, 2, 3, 5] {
        assert!(world.answers.find(&key(1, n)).is_none(), "{n}");
    }
}

#[tokio::test]
async fn an_answer_whose_time_is_up_is_not_read_back() {
    let world = World::start();
    world.finished(key(1, 1), &["text"]).await;
    let folder = world.stopped().await;
    assert_eq!(files(&folder).len(), 1);
    let world = World::with(folder, |settings| settings.keep = Duration::ZERO);
    world.reaches(0).await;
    assert_eq!(world.answers.count(), 0);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_only_the_restart() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("answers"), "in the way").unwrap();
    let world = World::with(folder, |_| {});
    let answer = world.finished(key(1, 1), &["text"]).await;
    assert_eq!(text(&rest(&mut answer.read(1).unwrap()).await), "text");
    world.stopped().await;
}

#[tokio::test]
async fn more_than_fits_is_read_back_from_the_newest_on() {
    let (world, long) = (World::start(), "x".repeat(300 * 1024));
    for n in 1..=4 {
        world.finished(key(1, n), &[&long]).await;
        world.reaches(usize::try_from(n).unwrap()).await;
    }
    let folder = world.stopped().await;
    let world = World::with(folder, |settings| settings.limits.total = 1 << 20);
    found(&world, key(1, 4)).await;
    world.reaches(2).await;
    assert!(world.answers.find(&key(1, 3)).is_some() && world.answers.find(&key(1, 2)).is_none());
}

#[tokio::test]
async fn finished_answers_make_room_from_the_device_that_has_the_most() {
    let folder = TempDir::new().unwrap();
    let world = World::with(folder, |settings| settings.limits.total = 1 << 20);
    let (small, large) = ("s".repeat(10 * 1024), "l".repeat(60 * 1024));
    world.finished(key(1, 1), &[&small]).await;
    for n in 1..=40 {
        let answer = world.finished(key(2, n), &[&large]).await;
        rest(&mut answer.read(1).unwrap()).await;
        assert!(world.answers.memory() < (1 << 20) + (1 << 18), "{}", world.answers.memory());
    }
    assert!(world.answers.find(&key(1, 1)).is_some(), "the small device keeps its oldest");
    assert!(world.answers.find(&key(2, 1)).is_none() && world.answers.find(&key(2, 40)).is_some());
}

#[tokio::test]
async fn running_answers_that_nobody_reads_wait_at_the_limit_and_go_on_when_somebody_does() {
    const RUNNING: u128 = 32;
    let folder = TempDir::new().unwrap();
    let world = World::with(folder, |settings| settings.limits.total = 2 << 20);
    let piece = "x".repeat(4 * 1024);
    let (begun, mut progress) = watch::channel(0_usize);
    let begun = Arc::new(begun);
    for n in 0..RUNNING {
        let (answer, piece, begun) = (world.new_answer(key(n, 1)), piece.clone(), Arc::clone(&begun));
        let made = Arc::clone(&answer);
        let run = async move {
            made.accept(v1::AskAccepted::default());
            let mut waited = false;
            for seq in 1..=64 {
                // All of them grow at the same pace, so that none is finished before there is no more room.
                tokio::task::yield_now().await;
                let push = made.push(v1::AskDelta { seq, text: piece.clone() });
                let mut push = std::pin::pin!(push);
                if futures_util::poll!(push.as_mut()).is_pending() {
                    begun.send_modify(|waiting| {
                        *waiting += usize::from(!std::mem::replace(&mut waited, true))
                    });
                    push.await.unwrap();
                }
            }
            finish(&made, 64);
        };
        world.answers.start(&answer, run).await.unwrap();
    }
    progress.wait_for(|waiting| *waiting >= RUNNING as usize - 1).await.unwrap();
    // Each has room for a little, whatever the others take; buffers may be twice what is in them.
    assert!(world.answers.memory() < (2 << 20) + RUNNING as usize * 64 * 1024, "{}", world.answers.memory());
    let mut reading = JoinSet::new();
    for n in 0..RUNNING {
        let answer = world.answers.find(&key(n, 1)).unwrap();
        reading.spawn(async move { text(&rest(&mut answer.read(1).unwrap()).await).len() });
    }
    while let Some(read) = reading.join_next().await {
        assert_eq!(read.unwrap(), 64 * piece.len());
    }
}

#[tokio::test]
async fn an_answer_over_its_limit_drops_what_was_read_and_can_then_not_be_read_from_there() {
    let folder = TempDir::new().unwrap();
    let world = World::with(folder, |settings| settings.limits.answer = 2 << 20);
    let answer = world.new_answer(key(1, 1));
    let piece = "x".repeat(256 * 1024);
    let mut reader = answer.read(1).unwrap();
    let (frames, ()) = tokio::join!(rest(&mut reader), async {
        for seq in 1..=40 {
            answer.push(v1::AskDelta { seq, text: piece.clone() }).await.unwrap();
        }
        finish(&answer, 40);
    });
    assert_eq!(text(&frames).len(), 40 * piece.len(), "the reader misses nothing");
    assert_eq!(answer.read(1).err(), Some(Missed));
    assert!(answer.read(42).is_ok());
    assert!(answer.kept().is_none(), "a part is not worth a file");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_running_answers_and_cuts_them_at_the_deadline() {
    let world = World::start();
    for (n, length) in [(1, Duration::from_secs(3)), (2, 100 * MINUTE)] {
        let answer = world.new_answer(key(1, n));
        let made = Arc::clone(&answer);
        let run = async move {
            make(&made, &["text".to_owned()]).await;
            tokio::select! {
                () = tokio::time::sleep(length) => {}
                why = made.unwanted(1_000 * MINUTE) => assert_eq!(why, Cancel::SessionEnds),
            }
            finish(&made, 1);
        };
        world.answers.start(&answer, run).await.unwrap();
    }
    let begun = Instant::now();
    world.answers.stop_by(begun + Duration::from_secs(10));
    let answers = world.answers.clone();
    let folder = world.stopped().await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(files(&folder).len(), 2, "both ended, and are kept");
    let late = match answers.enter(key(1, 3), IDENTITY) {
        Entered::New(answer) => answer,
        _ => panic!("it is new"),
    };
    assert_eq!(answers.start(&late, async {}).await, Err(Stopping));
    assert!(answers.find(&key(1, 3)).is_none());
}

#[tokio::test]
async fn a_revoked_devices_answers_end_and_go() {
    let world = World::start();
    let running = world.new_answer(key(1, 1));
    let _reader = running.read(1).unwrap();
    let finished = world.new_answer(key(1, 2));
    finish(&finished, 0);
    world.new_answer(key(2, 1));
    world.answers.revoke(Uuid::from_u128(1));
    assert_eq!(running.unwanted(MINUTE).await, Cancel::SessionEnds);
    assert!(world.answers.find(&key(1, 2)).is_none() && world.answers.find(&key(2, 1)).is_some());
}
