import numpy as np
import pytest

from models.errors import DataError
from models.text.task import TextTask, TextTaskKind
from pipelines.text.baselines import fit_tfidf

ENGLISH = ["fever and cough", "knee replacement", "cough at night", "hip replacement done"] * 3
JAPANESE = ["発熱と咳がある", "人工膝関節を置換", "夜間の咳あり", "股関節を置換した"] * 3
LABELS = [("lung",), ("bone",)] * 6


@pytest.mark.parametrize(("texts", "unseen"), [(ENGLISH, "bad cough"), (JAPANESE, "咳がひどい")])
def test_unseen_texts_get_the_class_of_their_words_or_characters(texts, unseen):
    task = TextTask(TextTaskKind.CLASSIFICATION, ("bone", "lung", "never"))
    risks = fit_tfidf(texts, LABELS, task).risks([unseen])
    assert risks[0].argmax() == 1
    assert risks.sum() == pytest.approx(1.0)
    assert risks[0, 2] == 0


def test_several_labels_are_fitted_one_by_one_and_a_constant_one_stays_constant():
    task = TextTask(TextTaskKind.MULTILABEL, ("lung", "always", "never"))
    labels = [(("lung", "always") if own == ("lung",) else ("always",)) for own in LABELS]
    risks = fit_tfidf(ENGLISH, labels, task).risks(["bad cough", "knee"])
    assert risks[0, 0] > 0.5 > risks[1, 0]
    assert np.array_equal(risks[:, 1:], [[1.0, 0.0], [1.0, 0.0]])


def test_labels_that_the_task_does_not_have_are_refused():
    task = TextTask(TextTaskKind.CLASSIFICATION, ("bone", "lung"))
    for labels in ([("skin",)] * 12, [()] * 12):
        with pytest.raises(DataError, match="labels must be"):
            fit_tfidf(ENGLISH, labels, task)
