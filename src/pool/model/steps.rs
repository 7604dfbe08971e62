//! The pool's rules step by step: one situation each, played by the model, which checks its promises after every step.
//!
//! Hosts: 0 speaks HTTP/1 without TLS, 1 and 2 are https and speak what their dials say.

use std::time::Duration;

use super::{Checkout, Model, Step};
use crate::config::PoolConfig;

fn pool(config: PoolConfig) -> Model {
    Model::new(config)
}

/// One step after the other.
fn run(model: &mut Model, steps: impl IntoIterator<Item = Step>) {
    steps.into_iter().for_each(|step| model.run(&step));
}

fn ask(host: usize) -> Step {
    Step::Checkout { host, fresh: false }
}

fn dialed(which: usize, http2: bool) -> Step {
    Step::Dialed { which, http2 }
}

fn back(which: usize) -> Step {
    Step::Return { which, reuse: true }
}

/// The hosts that are dialled.
fn dials(model: &Model) -> Vec<usize> {
    model.dials.iter().map(|(_, host, _)| *host).collect()
}

#[test]
fn the_most_recently_used_connection_comes_first() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 0, fresh: true });
        model.run(&Step::Dialed { which: 0, http2: false });
    }
    for _ in 0..3 {
        model.run(&Step::Return { which: 0, reuse: true });
    }
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!(model.loans, [2], "the last that came back goes first");
}

#[test]
fn the_least_recently_used_connection_of_any_host_makes_room() {
    let mut model = pool(PoolConfig { max_idle: 2, ..PoolConfig::default() });
    for host in 0..3 {
        model.run(&Step::Checkout { host, fresh: false });
        model.run(&Step::Dialed { which: 0, http2: false });
        model.run(&Step::Return { which: 0, reuse: true });
    }
    let closing: Vec<_> = model.conns.iter().map(|known| known.closing).collect();
    assert_eq!(closing, [true, false, false]);
}

#[test]
fn a_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran() {
    let mut model = pool(PoolConfig { idle_timeout: Some(Duration::from_secs(30)), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Return { which: 0, reuse: true });
    model.run(&Step::Wait(30));
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert!(model.loans.is_empty() && model.conns[0].closing && model.dials.len() == 1);
}

#[test]
fn cold_https_requests_wait_for_one_dial_and_http1_lets_them_all_dial() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..4 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    assert_eq!(model.dials.len(), 1);
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!((model.loans.len(), model.dials.len()), (1, 3));
    // It is remembered: the next cold requests do not wait for each other.
    model.run(&Step::Checkout { host: 1, fresh: true });
    assert_eq!(model.dials.len(), 4);
}

#[test]
fn cold_http2_requests_share_one_connection_up_to_its_streams() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..4 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    model.run(&Step::Dialed { which: 0, http2: true });
    assert_eq!((model.loans.clone(), model.waiting.len(), model.dials.len()), (vec![0, 0], 2, 0));
    model.run(&Step::MaxStreams { which: 0, max: 3 });
    assert_eq!(model.waiting.len(), 1);
    model.run(&Step::Return { which: 0, reuse: true });
    assert_eq!(model.waiting.len(), 0);
}

#[test]
fn a_failed_cold_dial_is_told_to_all_who_waited_for_it() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    model.run(&Step::DialFailed(0));
    assert_eq!((model.waiting.len(), model.done.len(), model.dials.len()), (0, 3, 0));
}

#[test]
fn a_failed_cold_dial_is_told_to_all_also_below_a_limit() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(2), ..PoolConfig::default() });
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    model.run(&Step::DialFailed(0));
    assert_eq!((model.waiting.len(), model.done.len(), model.dials.len()), (0, 3, 0));
}

#[test]
fn a_failed_dial_to_an_http1_origin_is_its_own_and_the_next_in_the_queue_dials() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(1), ..PoolConfig::default() });
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 0, fresh: false });
    }
    model.run(&Step::DialFailed(0));
    assert_eq!((model.waiting.len(), model.done.len(), model.dials.len()), (2, 1, 1));
}

#[test]
fn an_origins_http1_is_remembered_for_ten_minutes_without_a_connection() {
    for (seconds, dials) in [(599, 2), (600, 1)] {
        let mut model = pool(PoolConfig::default());
        model.run(&Step::Checkout { host: 1, fresh: false });
        model.run(&Step::Dialed { which: 0, http2: false });
        model.run(&Step::Return { which: 0, reuse: false });
        model.run(&Step::Closed(0));
        model.run(&Step::Wait(seconds));
        // A dial that fails has not shown anything.
        model.run(&Step::Checkout { host: 1, fresh: false });
        model.run(&Step::DialFailed(0));
        for _ in 0..2 {
            model.run(&Step::Checkout { host: 1, fresh: false });
        }
        assert_eq!(model.dials.len(), dials, "after {seconds} s");
    }
}

#[test]
fn a_dial_that_nobody_waits_for_any_more_fills_the_pool() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Cancel(0));
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!(model.core.idle_count(), 1);
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!(model.loans, [0]);
}

#[test]
fn a_closed_connection_under_a_cap_lets_the_next_waiter_dial() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(1), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!(model.dials.len(), 0, "the cap holds");
    model.run(&Step::Return { which: 0, reuse: false });
    model.run(&Step::Closed(0));
    assert_eq!(model.dials.len(), 1);
}

#[test]
fn an_idle_connection_of_another_host_makes_room_under_the_pools_limit() {
    let mut model = pool(PoolConfig { max_connections: Some(1), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Return { which: 0, reuse: true });
    model.run(&Step::Checkout { host: 2, fresh: false });
    assert!(model.conns[0].closing && model.dials.is_empty(), "its place is free when it is closed");
    model.run(&Step::Closed(0));
    assert_eq!(model.dials.len(), 1);
}

#[test]
fn a_connection_that_comes_back_while_others_wait_for_its_place_makes_room() {
    let mut model = pool(PoolConfig { max_connections: Some(1), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Checkout { host: 2, fresh: false });
    model.run(&Step::Checkout { host: 1, fresh: false });
    model.run(&Step::Return { which: 0, reuse: true });
    assert_eq!((model.core.idle_count(), model.dials.len()), (0, 0));
    model.run(&Step::Closed(0));
    let dialing: Vec<_> = model.dials.iter().map(|(_, host, _)| *host).collect();
    assert_eq!(dialing, [2], "who came first, whatever its host");
}

#[test]
fn without_late_binding_who_dials_waits_for_its_own_dial() {
    for late_binding in [true, false] {
        let mut model = pool(PoolConfig { late_binding, ..PoolConfig::default() });
        model.run(&Step::Checkout { host: 0, fresh: false });
        model.run(&Step::Dialed { which: 0, http2: false });
        model.run(&Step::Checkout { host: 0, fresh: false });
        model.run(&Step::Return { which: 0, reuse: true });
        assert_eq!(model.waiting.is_empty(), late_binding);
        assert_eq!(model.core.idle_count(), usize::from(!late_binding));
    }
}

#[test]
fn another_http2_connection_is_dialled_when_the_streams_are_used_up_and_it_is_allowed() {
    for (max, dials) in [(1, 0), (2, 1)] {
        let mut model = pool(PoolConfig { http2_max_connections_per_host: max, ..PoolConfig::default() });
        for _ in 0..4 {
            model.run(&Step::Checkout { host: 1, fresh: false });
        }
        model.run(&Step::Dialed { which: 0, http2: true });
        assert_eq!((model.loans.len(), model.dials.len()), (2, dials), "at most {max}");
    }
}

#[test]
fn an_http2_connection_that_is_too_old_ends_with_its_last_stream() {
    let life = Some(Duration::from_secs(10));
    let mut model = pool(PoolConfig { max_lifetime: life, ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 1, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: true });
    model.run(&Step::Wait(10));
    model.run(&Step::Checkout { host: 1, fresh: false });
    assert_eq!((model.loans.len(), model.dials.len()), (1, 1), "the next one dials");
    model.run(&Step::Return { which: 0, reuse: true });
    assert!(model.conns[0].closing);
}

#[test]
fn a_connection_that_is_just_coming_back_is_waited_for_and_not_doubled() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Returning(0));
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!((model.dials.len(), model.waiting.len()), (0, 1));
    // A second one has no such hope.
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!((model.dials.len(), model.waiting.len()), (1, 2));
    // If it does not come back after all, the first one dials too.
    model.run(&Step::Closed(0));
    assert_eq!(model.dials.len(), 2);
}

#[test]
fn a_loan_that_came_to_nothing_does_not_count_as_a_use() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    let (slot, conn) = (model.conns[0].slot, model.conns[0].conn.clone());
    for (unused, next) in [(true, 1), (false, 2)] {
        if unused {
            model.core.unused(slot, 1);
        }
        let mut effects = Vec::new();
        model.core.checkin(slot, conn.clone(), model.now, &mut effects);
        let key = model.keys[0].clone();
        match model.core.checkout(&key, model.now, false, || 9, &mut effects) {
            Checkout::Ready(lease) => assert_eq!(lease.number, next),
            Checkout::Wait { .. } => panic!("it is idle"),
        }
    }
}

#[test]
fn who_is_held_by_the_pools_limit_only_later_gets_room_then() {
    // Two connections: one of HTTP/2 with all its streams used, one idle of another host.
    let mut model = pool(PoolConfig { max_connections: Some(2), ..PoolConfig::default() });
    run(&mut model, [ask(0), dialed(0, false), back(0), ask(1), dialed(0, true), ask(1), ask(1)]);
    assert_eq!((model.core.idle_count(), model.waiting.len()), (1, 1), "it waits for a stream");
    model.run(&Step::Drain(1));
    assert!(model.conns[0].closing, "it may dial, and the idle one makes room");
    model.run(&Step::Closed(0));
    assert_eq!(dials(&model), [1]);

    // Cold requests wait for one dial, which shows that they all need their own.
    let mut model = pool(PoolConfig { max_connections: Some(2), ..PoolConfig::default() });
    run(&mut model, [ask(0), dialed(0, false), back(0), ask(1), ask(1), dialed(0, false)]);
    assert!(model.conns[0].closing);
    model.run(&Step::Closed(0));
    assert_eq!(dials(&model), [1]);
}

#[test]
fn no_more_idle_connections_make_room_than_are_needed() {
    let mut model = pool(PoolConfig { max_connections: Some(3), ..PoolConfig::default() });
    for host in [0, 1, 2] {
        run(&mut model, [ask(host), dialed(0, false), back(0)]);
    }
    // Its own idle connection is not good enough: it takes another one's place, and the next does so too.
    run(&mut model, [Step::Checkout { host: 1, fresh: true }]);
    assert_eq!(model.core.idle_count(), 2);
    run(&mut model, [Step::Expiry(2), Step::MaxStreams { which: 1, max: 1 }, Step::Cancel(9)]);
    assert_eq!(model.core.idle_count(), 2, "one closes already");
    run(&mut model, [Step::Checkout { host: 2, fresh: true }]);
    assert_eq!(model.core.idle_count(), 1);
}

#[test]
fn a_connection_does_not_go_to_its_own_host_before_an_older_waiter_of_another() {
    let mut model = pool(PoolConfig { max_connections: Some(1), ..PoolConfig::default() });
    run(&mut model, [ask(0), dialed(0, false), ask(2), ask(0), back(0)]);
    assert!(model.conns[0].closing && model.loans.is_empty());
    model.run(&Step::Closed(0));
    assert_eq!(dials(&model), [2]);

    // With its place on the way, the next one that comes back is for its own host again.
    let mut model = pool(PoolConfig { max_connections: Some(2), ..PoolConfig::default() });
    run(&mut model, [ask(0), dialed(0, false), ask(0), dialed(0, false), ask(2), ask(0), back(0), back(0)]);
    assert_eq!((model.conns[0].closing, model.conns[1].closing, model.loans.clone()), (true, false, vec![1]));
}

#[test]
fn a_busy_http2_connection_takes_no_more_streams_while_an_older_waiter_needs_its_place() {
    let mut model = pool(PoolConfig { max_connections: Some(1), ..PoolConfig::default() });
    run(&mut model, [ask(1), dialed(0, true), ask(2)]);
    // There is a stream, but who takes it keeps the other one waiting.
    model.run(&ask(1));
    assert_eq!((model.loans.len(), model.waiting.len()), (1, 2));
    model.run(&back(0));
    assert!(model.conns[0].closing);
    model.run(&Step::Closed(0));
    assert_eq!(dials(&model), [2]);
    // Its own host's turn comes next.
    run(&mut model, [dialed(0, true), back(0), Step::Closed(1)]);
    assert_eq!(dials(&model), [1]);

    // One that ends is enough for one who waits.
    let mut model = pool(PoolConfig { max_connections: Some(2), ..PoolConfig::default() });
    run(&mut model, [ask(1), dialed(0, true), ask(2), dialed(0, true), ask(0), ask(1), Step::Cancel(1), ask(2)]);
    assert_eq!((model.loans.clone(), model.waiting.len()), (vec![0, 1, 1], 1));
}

#[test]
fn an_http2_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran() {
    for (seconds, closing) in [(29, false), (30, true)] {
        let mut model = pool(PoolConfig { idle_timeout: Some(Duration::from_secs(30)), ..PoolConfig::default() });
        run(&mut model, [ask(1), dialed(0, true), back(0), Step::Wait(seconds), ask(1)]);
        assert_eq!((model.conns[0].closing, model.loans.is_empty()), (closing, closing), "after {seconds} s");
        assert_eq!(model.dials.len(), usize::from(closing));
    }
}

#[test]
fn who_hoped_for_a_connection_that_another_took_is_told_what_it_waits_for() {
    // Below a cap of two: one connection on loan, one dial whose request would take the connection as well.
    let mut model = pool(PoolConfig { max_connections_per_host: Some(2), ..PoolConfig::default() });
    run(&mut model, [ask(0), dialed(0, false), ask(0), Step::Returning(0), ask(0)]);
    assert_eq!((model.hopes.len(), model.dials.len()), (1, 1));
    model.run(&back(0));
    assert_eq!((model.loans.clone(), model.hopes.len(), model.waiting.len()), (vec![0], 0, 1), "told: the cap");
    // Without a cap it dials at once.
    let mut model = pool(PoolConfig::default());
    run(&mut model, [ask(0), dialed(0, false), ask(0), Step::Returning(0), ask(0), back(0)]);
    assert_eq!((model.loans.clone(), model.hopes.len(), model.dials.len()), (vec![0], 0, 2));
}

#[test]
fn a_retry_takes_no_connection_that_comes_back_while_it_dials() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Returning(0));
    model.run(&Step::Checkout { host: 0, fresh: true });
    assert_eq!(model.dials.len(), 1, "it has no hope in the one that is coming back");
    model.run(&Step::Return { which: 0, reuse: true });
    assert_eq!((model.waiting.len(), model.core.idle_count()), (1, 1));
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!((model.waiting.len(), model.loans.as_slice()), (0, &[1][..]));
}

#[test]
fn a_retry_of_a_stale_connection_dials_where_it_may_and_else_shares() {
    let mut model = pool(PoolConfig { http2_max_connections_per_host: 2, ..PoolConfig::default() });
    run(&mut model, [ask(1), dialed(0, true), back(0)]);
    model.run(&Step::Checkout { host: 1, fresh: true });
    assert_eq!((dials(&model).len(), model.loans.len()), (1, 0), "an idle one may be as stale");
    model.run(&Step::Checkout { host: 1, fresh: true });
    assert_eq!((dials(&model).len(), model.loans.len()), (1, 1), "there may be no third");
}

#[test]
fn a_host_that_refuses_http2_is_offered_http1_for_ten_minutes() {
    let mut model = pool(PoolConfig::default());
    run(&mut model, [ask(1), dialed(0, true), ask(1)]);
    assert_eq!(model.loans, [0, 0]);
    run(&mut model, [Step::Insist(1), ask(1)]);
    assert_eq!(
        (dials(&model), model.conns[0].closing),
        (vec![1], false),
        "its streams go on, and there are no new ones"
    );
    assert!(model.core.insists(model.dials[0].0.host, model.now));
    run(&mut model, [back(0), back(0)]);
    assert!(model.conns[0].closing, "it ends with its last stream");
    // Forgotten and asked again: it is still known, whatever was dialled meanwhile.
    run(&mut model, [dialed(0, false), back(0), Step::CloseIdle, Step::Closed(0), Step::Closed(1)]);
    run(&mut model, [Step::Wait(599), ask(1)]);
    assert!(model.core.insists(model.dials[0].0.host, model.now), "just within");
    run(&mut model, [Step::DialFailed(0), Step::Wait(1), ask(1)]);
    assert!(!model.core.insists(model.dials[0].0.host, model.now), "just beyond");
}

#[test]
fn an_http2_connection_that_comes_too_late_for_a_host_that_refuses_it_serves_nobody_else() {
    let mut model = pool(PoolConfig::default());
    run(&mut model, [ask(1), Step::Insist(1), ask(1), dialed(0, true), ask(1)]);
    assert_eq!(model.loans, [0], "its own request may try it");
    run(&mut model, [back(0)]);
    assert!(model.conns[0].closing);
    let mut model = pool(PoolConfig::default());
    run(&mut model, [ask(1), Step::Insist(1), Step::Cancel(0), dialed(0, true)]);
    assert!(model.conns[0].closing, "nobody waits for it");
}

/// A connection that carried one request, and is idle.
fn idle(model: &mut Model, host: usize, http2: bool) {
    run(model, [Step::Checkout { host, fresh: true }, dialed(0, http2), back(0)]);
}

#[test]
fn a_connection_that_has_died_is_not_handed_out_before_its_end_is_told() {
    let mut model = pool(PoolConfig::default());
    idle(&mut model, 0, false);
    run(&mut model, [Step::PeerCloses(0), ask(0)]);
    assert_eq!((model.loans.len(), model.conns[0].closing, dials(&model)), (0, true, vec![0]));
}

#[test]
fn an_http2_connection_that_has_died_is_not_handed_out_before_its_end_is_told() {
    let mut model = pool(PoolConfig { http2_max_connections_per_host: 2, ..PoolConfig::default() });
    idle(&mut model, 1, true);
    run(&mut model, [Step::PeerCloses(0), ask(1)]);
    assert_eq!((model.loans.len(), dials(&model)), (0, vec![1]));
}

#[test]
fn an_idle_http1_connection_that_is_too_old_is_not_handed_out_even_if_no_timer_ran() {
    for (seconds, reused) in [(59, true), (60, false)] {
        let mut model = pool(PoolConfig { max_lifetime: Some(Duration::from_secs(60)), ..PoolConfig::default() });
        idle(&mut model, 0, false);
        run(&mut model, [Step::Wait(seconds), ask(0)]);
        assert_eq!((model.loans.len() == 1, model.conns[0].closing), (reused, !reused), "{seconds} s");
    }
}

#[test]
fn an_http1_connection_that_is_too_old_is_not_handed_over() {
    for (seconds, reused) in [(59, true), (60, false)] {
        let config = PoolConfig { max_lifetime: Some(Duration::from_secs(60)), ..PoolConfig::default() };
        let mut model = pool(PoolConfig { max_connections_per_host: Some(1), ..config });
        run(&mut model, [ask(0), dialed(0, false), ask(0), Step::Wait(seconds), back(0)]);
        assert_eq!((model.loans.len() == 1, model.conns[0].closing), (reused, !reused), "{seconds} s");
    }
}

#[test]
fn the_pool_keeps_256_idle_connections_for_90_seconds_and_no_more_and_no_longer() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..257 {
        run(&mut model, [Step::Checkout { host: 0, fresh: true }, dialed(0, false)]);
    }
    run(&mut model, (0..256).map(|_| back(0)));
    assert!(model.conns.iter().all(|known| !known.closing), "just within");
    run(&mut model, [back(0)]);
    let closing: Vec<_> = model.conns.iter().filter(|known| known.closing).map(|known| known.conn.id).collect();
    assert_eq!(closing, [0], "just beyond: the oldest makes room");
    run(&mut model, [Step::Wait(89), ask(0)]);
    assert_eq!(model.loans, [256], "just within");
    run(&mut model, [back(0), Step::Wait(90), ask(0)]);
    assert!(model.loans.is_empty() && model.conns.iter().all(|known| known.closing), "just beyond");
}

#[test]
fn as_many_connections_of_a_host_are_kept_as_the_limit_says() {
    let mut model = pool(PoolConfig { max_idle_per_host: 2, ..PoolConfig::default() });
    for _ in 0..3 {
        run(&mut model, [Step::Checkout { host: 0, fresh: true }, dialed(0, false)]);
    }
    run(&mut model, [back(0), back(0), back(0)]);
    let closing: Vec<_> = model.conns.iter().map(|known| known.closing).collect();
    assert_eq!(closing, [false, false, true], "two are kept, and what comes third closes");
}

#[test]
fn as_many_connections_of_a_host_are_open_as_the_cap_says() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(2), ..PoolConfig::default() });
    run(&mut model, [ask(0), ask(0), ask(0)]);
    assert_eq!(dials(&model), [0, 0], "dials count");
    run(&mut model, [dialed(0, false), dialed(0, false), ask(0)]);
    assert_eq!((model.loans.len(), model.waiting.len()), (2, 2), "and so do connections");
}

#[test]
fn a_connection_ends_when_its_idle_time_is_over() {
    for (seconds, over) in [(89, false), (90, true)] {
        let mut model = pool(PoolConfig::default());
        idle(&mut model, 0, false);
        run(&mut model, [Step::Wait(seconds), Step::Expiry(0)]);
        assert_eq!(model.conns[0].closing, over, "{seconds} s");
    }
}

#[test]
fn an_idle_connection_ends_with_its_lifetime() {
    for (seconds, over) in [(59, false), (60, true)] {
        let mut model = pool(PoolConfig { max_lifetime: Some(Duration::from_secs(60)), ..PoolConfig::default() });
        idle(&mut model, 0, false);
        run(&mut model, [Step::Wait(seconds), Step::Expiry(0)]);
        assert_eq!(model.conns[0].closing, over, "{seconds} s");
    }
}

#[test]
fn what_is_dialled_for_nobody_is_closed_if_the_pool_was() {
    let mut model = pool(PoolConfig::default());
    run(&mut model, [ask(0)]);
    let mut effects = Vec::new();
    model.core.close(&mut effects);
    run(&mut model, [Step::Cancel(0), dialed(0, false)]);
    assert!(model.conns[0].closing && model.loans.is_empty());
}

#[test]
fn a_host_that_nobody_uses_is_forgotten() {
    let mut model = pool(PoolConfig::default());
    idle(&mut model, 0, false);
    run(&mut model, [ask(1), Step::Cancel(0), Step::DialFailed(0)]);
    assert_eq!(model.core.keys.len(), 1, "a connection is a use, and a dial is none any more");
    run(&mut model, [Step::CloseIdle, Step::Closed(0)]);
    assert_eq!((model.core.keys.len(), model.core.hosts.len()), (0, 0));
}
