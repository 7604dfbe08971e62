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
}
