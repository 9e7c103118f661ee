//! A bounded number of connections to a door (I7). When all seats are taken, whoever has been idle the
//! longest gives his up: connections that nobody uses lock nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// The seats of one door.
pub struct Seats {
    max: usize,
    state: Mutex<State>,
    /// A seat was given up, or one that was in use fell idle.
    changed: Notify,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// Counts up: the order in which connections fell idle.
    turn: u64,
    /// Who is idle, by turn.
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's seat; given up when dropped. Idle until [`Seat::busy`] is called.
pub struct Seat {
    seats: Arc<Seats>,
    leave: Arc<Notify>,
    use_: Mutex<Use>,
}

struct Use {
    /// Requests under way.
    requests: usize,
    /// The turn in which it fell idle; `None` while it is not.
    idle_since: Option<u64>,
}

/// A request is under way on this seat until this is dropped.
pub struct Busy {
    seat: Arc<Seat>,
}

impl Seats {
    /// `max` seats, at least one.
    pub fn new(max: usize) -> Arc<Seats> {
        Arc::new(Seats { max: max.max(1), state: Mutex::default(), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats that are taken.
    pub fn taken(&self) -> usize {
        self.state().taken
    }

    /// Takes a seat; if there is none, the longest idle connection is asked to leave and waited for. While
    /// requests are under way on all of them, it waits for one to end.
    ///
    /// Cancellation: nothing is taken; who was asked to leave leaves.
    pub async fn take(self: &Arc<Seats>) -> Arc<Seat> {
        // Whom this call has asked, for as long as he is there: one seat is enough.
        let mut asked: Option<Weak<Notify>> = None;
        loop {
            // Before the look: a seat that is given up in between is not missed.
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if state.taken < self.max {
                    state.taken += 1;
                    let (leave, idle_since) = (Arc::new(Notify::new()), state.fall_idle());
                    state.idle.insert(idle_since, leave.clone());
                    let use_ = Mutex::new(Use { requests: 0, idle_since: Some(idle_since) });
                    return Arc::new(Seat { seats: self.clone(), leave, use_ });
                }
                if asked.as_ref().is_none_or(|who| who.strong_count() == 0)
                    && let Some((_, leave)) = state.idle.pop_first()
                {
                    leave.notify_one();
                    asked = Some(Arc::downgrade(&leave));
                }
            }
            changed.await;
        }
    }
}

impl State {
    fn fall_idle(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }
}

impl Seat {
    fn use_(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks that a request is under way.
    pub fn busy(self: &Arc<Seat>) -> Busy {
        let mut own = self.use_();
        own.requests += 1;
        if let Some(turn) = own.idle_since.take() {
            self.seats.state().idle.remove(&turn);
        }
        drop(own);
        Busy { seat: self.clone() }
    }

    /// Whether a request is under way.
    pub fn is_busy(&self) -> bool {
        self.use_().requests > 0
    }

    /// Completes when another connection needs the seat. One on which a request has begun meanwhile goes on
    /// with it and ends then.
    pub async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut own = self.seat.use_();
        own.requests = own.requests.saturating_sub(1);
        if own.requests == 0 {
            let mut state = self.seat.seats.state();
            let turn = state.fall_idle();
            state.idle.insert(turn, self.seat.leave.clone());
            own.idle_since = Some(turn);
            drop(state);
            self.seat.seats.changed.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let idle_since = self.use_().idle_since.take();
        let mut state = self.seats.state();
        state.taken = state.taken.saturating_sub(1);
        if let Some(turn) = idle_since {
            state.idle.remove(&turn);
        }
        drop(state);
        self.seats.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Whether a future is ready without any help.
    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[tokio::test]
    async fn i7_the_longest_idle_connection_gives_its_seat_up() {
        let seats = Seats::new(2);
        let first = seats.take().await;
        let second = seats.take().await;
        // The first was used last: the second has been idle for longer.
        drop(first.busy());
        let mut third = Box::pin(seats.take());
        assert!(ready(third.as_mut()).is_none());
        assert!(ready(second.asked_to_leave()).is_some());
        assert!(ready(first.asked_to_leave()).is_none(), "one seat is enough");
        drop(second);
        let third = ready(third.as_mut()).expect("it gets the seat");
        assert_eq!(seats.taken(), 2);
        drop((first, third));
        assert_eq!((seats.taken(), seats.state().idle.len()), (0, 0));
    }

    #[tokio::test]
    async fn i7_requests_under_way_are_waited_for() {
        let seats = Seats::new(1);
        let seat = seats.take().await;
        let (one, two) = (seat.busy(), seat.busy());
        let mut next = Box::pin(seats.take());
        assert!(ready(next.as_mut()).is_none());
        drop(one);
        assert!(seat.is_busy() && ready(seat.asked_to_leave()).is_none());
        drop(two);
        assert!(ready(next.as_mut()).is_none());
        assert!(ready(seat.asked_to_leave()).is_some(), "it fell idle while somebody waited");
        drop(seat);
        assert!(ready(next.as_mut()).is_some());
    }

    #[tokio::test]
    async fn i7_who_is_asked_to_leave_while_a_request_begins_ends_with_it() {
        let seats = Seats::new(1);
        let seat = seats.take().await;
        let mut next = Box::pin(seats.take());
        assert!(ready(next.as_mut()).is_none());
        let busy = seat.busy();
        assert!(ready(seat.asked_to_leave()).is_some() && seat.is_busy());
        drop(busy);
        drop(seat);
        assert!(ready(next.as_mut()).is_some());
    }
}
