"""What a network's output means, by name: the class of an image, or the string it shows."""

from hwr.tasks.classification import Classification, Evaluation
from hwr.tasks.strings import StringEvaluation, Strings
from hwr.tasks.task import Result, Task, tasks

__all__ = [
    "Classification",
    "Evaluation",
    "Result",
    "StringEvaluation",
    "Strings",
    "Task",
    "tasks",
]
