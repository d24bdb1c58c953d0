"""What can go wrong between processes."""


class BusError(Exception):
    """The root of every error of this room."""


class MalformedMessage(BusError):
    """The bytes on a subject are no message of ours at all."""


class UnknownMessage(BusError):
    """A well-formed message whose tag this process does not know: a newer release sent it."""


class MessageTooLarge(BusError):
    """The encoded message is over the limit; its payload belongs in the object store."""


class StreamFull(BusError):
    """The stream refuses more work for now; the caller should come back later."""


class PublishFailed(BusError):
    """No acknowledgement came within the deadline. The message may be stored all the same."""


class NotSettled(BusError):
    """The server did not confirm an ack, nak or term; the message may be delivered again."""


class ConsumerGone(BusError):
    """Nothing answers for a durable consumer: no topology was applied, or a stream in memory was lost."""


class TopologyRefused(BusError):
    """The server does not accept a stream or consumer of the topology, or a change of it."""


class NoAnswer(BusError):
    """Nobody answered a question in time, or nobody is there to be asked."""


class AnswerLate(NoAnswer):
    """Whoever was asked did not answer in time; they may have done what they were asked to."""


class NobodyThere(NoAnswer):
    """Nobody is there to be asked: it was known at once."""


class UnexpectedAnswer(BusError):
    """A question was answered with a message that is no answer to it."""


class NotPermitted(BusError):
    """The server refused the operation for this credential."""


class BusUnavailable(BusError):
    """No connection to the bus could be made."""


class ObjectNotFound(BusError):
    """No object is stored under the key."""


class ObjectStoreError(BusError):
    """The object store did not do what it was asked."""


class ObjectTooLarge(BusError):
    """More bytes came than the caller allows; nothing was kept."""
