//! One shared alarm clock for a node: call deadlines, idle entities, restart backoffs.
//!
//! A hashed timing wheel with 10 ms slots (Varghese and Lauck, 1987), because an alarm costs two
//! short critical sections instead of a runtime timer, and most calls end long before theirs. One
//! turn is ten seconds, more than most calls may take; later alarms lie in a sorted map.
//! Alarms ring up to one slot late and never early. Not for stored timers (`timers.rs`).

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use tokio::sync::Notify;

use crate::clock::{Clock, Instant};

/// How exactly alarms ring.
pub const RESOLUTION: Duration = Duration::from_millis(10);

/// Independent parts, so that threads rarely meet.
const PARTS: usize = 8;

/// Slots of one turn.
const TURN: u64 = 1024;

/// No neighbour in a slot's list.
const NONE: u32 = u32::MAX;

/// What happens when an alarm rings.
pub enum Alarm {
    /// Wakes a task.
    Wake(Waker),
    /// Runs a short function that must not block.
    Run(Box<dyn FnOnce() + Send>),
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Wake(_) => "Wake",
            Self::Run(_) => "Run",
        })
    }
}

/// Names a set alarm, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmId {
    part: u8,
    entry: u32,
    generation: u32,
}

/// The alarms of one node.
#[derive(Debug)]
pub struct Wheel {
    clock: Clock,
    start: Instant,
    parts: [Mutex<Part>; PARTS],
    next_part: AtomicUsize,
    /// The tick the runner sleeps towards; an earlier alarm wakes it.
    sleeping_until: AtomicU64,
    earlier: Notify,
}

#[derive(Debug)]
struct Part {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// All alarms up to this tick have rung.
    rung: u64,
    /// First entry of each tick of the turn after `rung`.
    near: Box<[u32]>,
    /// How many entries lie in `near`.
    near_count: usize,
    /// First entry of each other tick that has any.
    far: BTreeMap<u64, u32>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            rung: 0,
            near: vec![NONE; TURN as usize].into(),
            near_count: 0,
            far: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// Whether it lies in the turn.
    near: bool,
    tick: u64,
    previous: u32,
    next: u32,
    alarm: Option<Alarm>,
}

impl Wheel {
    /// Returns an empty wheel; [`Wheel::run`] must be polled for alarms to ring.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            start: clock.now(),
            parts: Default::default(),
            next_part: AtomicUsize::new(0),
            sleeping_until: AtomicU64::new(u64::MAX),
            earlier: Notify::new(),
        }
    }

    /// Sets an alarm.
    pub fn set(&self, at: Instant, alarm: Alarm) -> AlarmId {
        let tick = self.tick_after(at);
        let part = self.next_part.fetch_add(1, Ordering::Relaxed) % PARTS;
        let (entry, generation) = self.part(part).insert(tick, alarm);
        if tick < self.sleeping_until.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
        AlarmId {
            part: part as u8,
            entry,
            generation,
        }
    }

    /// Takes an alarm back; one that rang already is no matter.
    pub fn cancel(&self, id: AlarmId) {
        let removed = self.part(usize::from(id.part)).remove(id);
        drop(removed); // Outside the lock: dropping a waker may run other code.
    }

    /// Changes whom an alarm wakes; returns whether it is still set.
    pub fn rewake(&self, id: AlarmId, waker: &Waker) -> bool {
        let mut part = self.part(usize::from(id.part));
        match part.entries.get_mut(id.entry as usize) {
            Some(entry) if entry.generation == id.generation => {
                if let Some(Alarm::Wake(old)) = &mut entry.alarm {
                    old.clone_from(waker);
                }
                entry.alarm.is_some()
            }
            _ => false,
        }
    }

    /// Returns how many alarms are set.
    pub fn alarms(&self) -> usize {
        let set = |index| {
            let part = self.part(index);
            part.entries.len() - part.free.len()
        };
        (0..PARTS).map(set).sum()
    }

    /// Rings alarms until dropped. Cancel safe: an alarm is taken and rung without an await
    /// between.
    pub async fn run(&self) {
        loop {
            // Announce first, look second: an alarm set in between is either seen or wakes us.
            self.sleeping_until.store(0, Ordering::SeqCst);
            let now = self.ticks_passed();
            self.ring(now);
            let next = self.earliest();
            self.sleeping_until
                .store(next.unwrap_or(u64::MAX), Ordering::SeqCst);
            if self.earliest() != next {
                continue;
            }
            match next {
                None => self.earlier.notified().await,
                Some(tick) => {
                    tokio::select! {
                        biased;
                        () = self.earlier.notified() => {}
                        () = self.clock.sleep_until(self.end_of(tick)) => {}
                    }
                }
            }
        }
    }

    fn ring(&self, now: u64) {
        for index in 0..PARTS {
            loop {
                let alarm = self.part(index).pop_due(now);
                match alarm {
                    Some(Alarm::Wake(waker)) => waker.wake(),
                    Some(Alarm::Run(run)) => run(),
                    None => break,
                }
            }
        }
    }

    fn earliest(&self) -> Option<u64> {
        (0..PARTS)
            .filter_map(|index| self.part(index).earliest())
            .min()
    }

    fn ticks_passed(&self) -> u64 {
        let passed = self.clock.now().saturating_duration_since(self.start);
        (passed.as_nanos() / RESOLUTION.as_nanos()) as u64
    }

    /// Returns when all of `tick` has passed.
    fn end_of(&self, tick: u64) -> Instant {
        // Not `RESOLUTION * tick`, which counts no further than 497 days.
        self.start + Duration::from_millis(RESOLUTION.as_millis() as u64 * tick)
    }

    /// Rounds up, so that no alarm rings early.
    fn tick_after(&self, at: Instant) -> u64 {
        let until = at.saturating_duration_since(self.start);
        until.as_nanos().div_ceil(RESOLUTION.as_nanos()) as u64
    }

    fn part(&self, index: usize) -> MutexGuard<'_, Part> {
        self.parts[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn insert(&mut self, tick: u64, alarm: Alarm) -> (u32, u32) {
        let near = tick > self.rung && tick - self.rung < TURN;
        let head = self.head(near, tick);
        let (index, generation) = if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            (entry.near, entry.tick) = (near, tick);
            (entry.previous, entry.next) = (NONE, head);
            entry.alarm = Some(alarm);
            (index, entry.generation)
        } else {
            self.entries.push(Entry {
                generation: 0,
                near,
                tick,
                previous: NONE,
                next: head,
                alarm: Some(alarm),
            });
            ((self.entries.len() - 1) as u32, 0)
        };
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        self.set_head(near, tick, index);
        self.near_count += usize::from(near);
        (index, generation)
    }

    fn head(&self, near: bool, tick: u64) -> u32 {
        if near {
            return self.near[(tick % TURN) as usize];
        }
        self.far.get(&tick).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, near: bool, tick: u64, head: u32) {
        if near {
            self.near[(tick % TURN) as usize] = head;
        } else if head == NONE {
            self.far.remove(&tick);
        } else {
            self.far.insert(tick, head);
        }
    }

    /// Returns the first tick that has an alarm.
    fn earliest(&self) -> Option<u64> {
        let far = self.far.keys().next().copied();
        if self.near_count == 0 {
            return far;
        }
        let mut turn = self.rung + 1..self.rung + TURN;
        let near = turn.find(|tick| self.near[(tick % TURN) as usize] != NONE);
        near.into_iter().chain(far).min()
    }

    fn remove(&mut self, id: AlarmId) -> Option<Alarm> {
        let entry = self.entries.get(id.entry as usize)?;
        if entry.generation != id.generation || entry.alarm.is_none() {
            return None;
        }
        self.unlink(id.entry)
    }

    fn pop_due(&mut self, now: u64) -> Option<Alarm> {
        if let Some((&tick, &head)) = self.far.first_key_value()
            && tick <= now
        {
            return self.unlink(head);
        }
        while self.rung < now {
            if self.near_count == 0 {
                self.rung = now;
                break;
            }
            let head = self.near[((self.rung + 1) % TURN) as usize];
            if head != NONE {
                return self.unlink(head);
            }
            self.rung += 1;
        }
        None
    }

    fn unlink(&mut self, index: u32) -> Option<Alarm> {
        let entry = &mut self.entries[index as usize];
        let (near, tick) = (entry.near, entry.tick);
        let (previous, next) = (entry.previous, entry.next);
        entry.generation = entry.generation.wrapping_add(1);
        let alarm = entry.alarm.take();
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
        } else {
            self.set_head(near, tick, next);
        }
        self.near_count -= usize::from(near);
        self.free.push(index);
        alarm
    }
}

#[cfg(test)]
mod tests;
