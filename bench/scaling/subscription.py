"""The queue: messages wait, are leased, come again, and are answered once."""

from __future__ import annotations

from dataclasses import dataclass

from .des import simpy
from .photos import Photo


@dataclass(eq=False)
class Message:
    """One photo's way through the queue."""

    photo: Photo
    published: float
    tag: str
    taken: float | None = None
    """When it was first pulled."""
    finished: float | None = None
    deliveries: int = 0


class Subscription:
    """Pub/Sub as far as scaling can tell: first come, first served; what is not acked comes again."""

    def __init__(self, env: simpy.Environment):
        self.env = env
        self._waiting = simpy.Store(env)
        self.unacked = 0
        """What Cloud Monitoring calls num_undelivered_messages: waiting and leased."""
        self.messages: list[Message] = []

    def publish(self, photo: Photo, tag: str) -> Message:
        message = Message(photo, self.env.now, tag)
        self.messages.append(message)
        self.unacked += 1
        self._waiting.put(message)
        return message

    def pull(self) -> simpy.Event:
        """Occurs with the next message; `took` must be told."""
        return self._waiting.get()

    def took(self, message: Message) -> None:
        message.deliveries += 1
        if message.taken is None:
            message.taken = self.env.now

    def ack(self, message: Message) -> None:
        assert message.finished is None, "a message is answered once"
        message.finished = self.env.now
        self.unacked -= 1

    def give_back(self, message: Message, after: float = 0.0) -> None:
        """A nack, or a lease that ends `after` some time: somebody else gets it then."""
        self.env.process(self._again(message, after))

    def _again(self, message: Message, after: float):
        yield self.env.timeout(after)
        yield self._waiting.put(message)
