//! Happy Eyeballs (RFC 8305): in which order addresses are tried, and when.
//!
//! In: addresses in the resolver's order, then one future per address. Out: the first that succeeds, or every error. The
//! next attempt starts when the one before has failed or has had its time; those before it go on. It knows no sockets, so
//! that its times are tested exactly.

use std::{
    future::{Future, pending, poll_fn},
    net::IpAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

/// The order in which addresses are tried (RFC 8305 §4): the families by turns, beginning with the first answer's, the
/// order inside a family kept. An IPv4 address that is mapped into IPv6 is an IPv4 address; doubles are left out.
pub(super) fn interleaved(answers: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for addr in answers.into_iter().map(|addr| addr.to_canonical()) {
        let same = first.first().is_none_or(|other: &IpAddr| other.is_ipv4() == addr.is_ipv4());
        let family = if same { &mut first } else { &mut second };
        if !family.contains(&addr) {
            family.push(addr);
        }
    }
    let mut order = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    while first.len() + second.len() > 0 {
        order.extend(first.next().into_iter().chain(second.next()));
    }
    order
}

/// The first success. Each attempt starts when the one before failed, or `delay` after that one's start; `None`: only when
/// it failed. An attempt begins as it is taken out of `attempts`.
///
/// # Errors
///
/// All of them, in the order of the attempts.
///
/// # Cancel safety
///
/// Attempts are owned by this future: dropped are those that lost, and all if it is dropped itself.
pub(super) async fn race<T, E, F>(attempts: impl IntoIterator<Item = F>, delay: Option<Duration>) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut open = Vec::new();
    let mut errors = Vec::new();
    for (newest, attempt) in attempts.into_iter().enumerate() {
        open.push((newest, Box::pin(attempt)));
        let mut head_start = pin!(async move {
            match delay {
                Some(delay) => tokio::time::sleep(delay).await,
                None => pending().await,
            }
        });
        while open.last().is_some_and(|(number, _)| *number == newest) {
            // Nothing is lost by the branch that loses: the attempts stay in `open`.
            let (number, result) = tokio::select! {
                biased;
                ended = first_to_end(&mut open) => ended,
                () = &mut head_start => break,
            };
            match result {
                Ok(won) => return Ok(won),
                Err(error) => errors.push((number, error)),
            }
        }
    }
    while !open.is_empty() {
        match first_to_end(&mut open).await {
            (_, Ok(won)) => return Ok(won),
            (number, Err(error)) => errors.push((number, error)),
        }
    }
    errors.sort_by_key(|(number, _)| *number);
    Err(errors.into_iter().map(|(_, error)| error).collect())
}

/// Takes out the first attempt that has ended; of several, the one that started first.
async fn first_to_end<F: Future>(open: &mut Vec<(usize, Pin<Box<F>>)>) -> (usize, F::Output) {
    poll_fn(|cx| {
        for index in 0..open.len() {
            if let Poll::Ready(output) = open[index].1.as_mut().poll(cx) {
                return Poll::Ready((open.remove(index).0, output));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration as Time};

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn order(answers: &[&str]) -> Vec<String> {
        let answers = answers.iter().map(|addr| addr.parse().expect("an address"));
        interleaved(answers).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_first_answers() {
        assert_eq!(order(&["::1", "::2", "::3", "1.1.1.1"]), ["::1", "1.1.1.1", "::2", "::3"]);
        assert_eq!(order(&["1.1.1.1", "1.1.1.2", "::1", "::2"]), ["1.1.1.1", "::1", "1.1.1.2", "::2"]);
        assert_eq!(order(&["1.1.1.1", "1.1.1.2"]), ["1.1.1.1", "1.1.1.2"]);
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn no_address_is_tried_twice_in_another_spelling() {
        assert_eq!(order(&["::ffff:1.1.1.1", "1.1.1.1", "::1", "::1"]), ["1.1.1.1", "::1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_succeeds_when_the_time_is_up_keeps_the_next_from_starting() {
        let delay = Duration::from_millis(250);
        let started = std::cell::Cell::new(0);
        let attempts = (0..3).map(|number| {
            started.set(started.get() + 1);
            async move {
                tokio::time::sleep(delay).await;
                Ok::<_, ()>(number)
            }
        });
        assert_eq!(race(attempts, Some(delay)).await, Ok(0));
        assert_eq!(started.get(), 1);
    }

    /// How an address answers: after so many milliseconds, and whether it lets one in.
    type Address = (u64, bool);

    /// What happened to each attempt: its start, and its end, with whether it was dropped before it had one of its own.
    type Seen = RefCell<Vec<(u64, Option<(u64, bool)>)>>;

    /// Tells the end of an attempt, whichever way it goes.
    struct Attempt<'a>(usize, Instant, &'a Seen, bool);

    impl Attempt<'_> {
        fn answered(&mut self) {
            self.3 = false;
        }
    }

    impl Drop for Attempt<'_> {
        fn drop(&mut self) {
            let end = &mut self.2.borrow_mut()[self.0].1;
            assert!(end.is_none(), "an attempt ends once");
            *end = Some((millis(self.1.elapsed()), self.3));
        }
    }

    fn millis(time: Time) -> u64 {
        u64::try_from(time.as_millis()).expect("a short time")
    }

    /// The race in simulated time. `None`: it was given up.
    fn run(
        addresses: &[Address],
        delay: Option<u64>,
        given_up: u64,
        seen: &Seen,
    ) -> Option<Result<(usize, u64), Vec<usize>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let begin = Instant::now();
            let attempts = addresses.iter().enumerate().map(|(number, (takes, wins))| {
                seen.borrow_mut().push((millis(begin.elapsed()), None));
                let mut attempt = Attempt(number, begin, seen, true);
                async move {
                    tokio::time::sleep(Time::from_millis(*takes)).await;
                    attempt.answered();
                    if *wins { Ok((number, millis(begin.elapsed()))) } else { Err(number) }
                }
            });
            tokio::select! {
                ended = race(attempts, delay.map(Time::from_millis)) => Some(ended),
                () = tokio::time::sleep(Time::from_millis(given_up)) => None,
            }
        })
    }

    /// When each address is tried, by the letter: when the one before has failed, or has had its time, as long as nobody has
    /// won.
    fn starts(addresses: &[Address], delay: Option<u64>) -> (Vec<u64>, Option<(u64, usize)>) {
        let (mut starts, mut winner) = (Vec::new(), None::<(u64, usize)>);
        let mut next = 0;
        for (number, (takes, wins)) in addresses.iter().enumerate() {
            if winner.is_some_and(|(at, _)| at <= next) {
                break;
            }
            starts.push(next);
            let end = next + takes;
            if *wins {
                winner = Some(winner.map_or((end, number), |winner| winner.min((end, number))));
            }
            next = match (delay, wins) {
                (Some(delay), true) => next + delay,
                (Some(delay), false) => end.min(next + delay),
                (None, true) => u64::MAX,
                (None, false) => end,
            };
        }
        (starts, winner)
    }

    proptest! {
        // Even times, given up at odd ones: what happens in the same millisecond as the end is nobody's affair.
        #[test]
        fn in_any_race_each_address_has_its_turn_the_first_success_wins_and_all_that_began_ends(
            addresses in proptest::collection::vec((0_u64..400, any::<bool>()), 0..8),
            delay in proptest::option::of(0_u64..200),
            given_up in prop_oneof![3 => Just(u64::from(u32::MAX)), 1 => 0_u64..600],
        ) {
            let addresses: Vec<_> = addresses.into_iter().map(|(takes, wins)| (2 * takes, wins && takes % 3 > 0)).collect();
            let (delay, given_up) = (delay.map(|delay| 2 * delay), 2 * given_up + 1);
            let seen = Seen::default();
            let ended = run(&addresses, delay, given_up, &seen);
            let (starts, winner) = starts(&addresses, delay);
            let lasts = winner.map_or_else(
                || starts.iter().zip(&addresses).map(|(start, (takes, _))| start + takes).max().unwrap_or(0),
                |(at, _)| at,
            );
            let seen = seen.into_inner();
            let tried: Vec<_> = seen.iter().map(|(start, _)| *start).collect();
            if lasts < given_up {
                let expected = match winner {
                    Some((at, number)) => Ok((number, at)),
                    None => Err((0..addresses.len()).collect()),
                };
                prop_assert_eq!(ended, Some(expected));
                prop_assert_eq!(&tried, &starts);
            } else {
                prop_assert_eq!(ended, None);
                let before: Vec<_> = starts.iter().copied().filter(|start| *start < given_up).collect();
                prop_assert_eq!(&tried, &before);
            }
            for (number, (start, end)) in seen.iter().enumerate() {
                let (end, dropped) = end.expect("what began has ended");
                let own = start + addresses[number].0;
                // Nobody goes on behind the end of the race; of two that end with it, one has lost.
                let over = lasts.min(given_up);
                prop_assert_eq!(end, own.min(over));
                prop_assert!(own == over || dropped == (own > over));
            }
        }
    }
}
