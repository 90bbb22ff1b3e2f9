"""The metrics by name, with what must be known to read their numbers."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from metrics import identification, images, ranking, vectors
from metrics.base import Metric

_ZERO_VARIANCE = "correlation with a vector of zero variance is 0, counted in the record"
_ZERO_VECTOR = "cosine with a vector of zeros is 0, counted in the record"
_MID_RANKS = "mid-ranks: tied candidates share their mean rank"
_EXPECTED = "expectation under random tie order"


def _half(n_candidates: int) -> float:
    return 0.5


def _topk(name: str, k: int) -> Metric:
    return Metric(
        name=name,
        version=1,
        function=getattr(ranking, name),
        kind="scores",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=lambda n_candidates: min(1.0, k / n_candidates),
        ties=f"{_EXPECTED}: clip(({k} - n_greater) / n_tied, 0, 1)",
        definition=f"Share of items whose target is among the {k} highest-scoring candidates.",
        source="standard retrieval and classification accuracy",
    )


_ALL = (
    _topk("top1", 1),
    _topk("top5", 5),
    _topk("top10", 10),
    Metric(
        name="pairwise_2v2",
        version=1,
        function=identification.pairwise_2v2,
        kind="vectors",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_half,
        ties=f"sums of correlations within 1e-12 count 1/2; {_ZERO_VARIANCE}",
        degenerate=identification.zero_variance_items,
        definition="Share of pairs of items whose right assignment has the higher sum of Pearson correlations than "
        "the swapped one; the value of an item is the mean over the pairs it is part of.",
        source="Mitchell et al. 2008, doi:10.1126/science.1152876, with correlation as in Pereira et al. 2018, "
        "doi:10.1038/s41467-018-03068-4",
    ),
    Metric(
        name="two_way",
        version=1,
        function=identification.two_way,
        kind="vectors",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_half,
        ties=f"correlations within 1e-12 count 1/2; {_ZERO_VARIANCE}",
        degenerate=identification.zero_variance_items,
        definition="For every prediction, share of the other items' targets that correlate (Pearson) less with it than "
        "its own target does.",
        source="two-way identification of Ozcelik & VanRullen 2023, doi:10.1038/s41598-023-42891-8, with ties at 1/2",
    ),
    Metric(
        name="rank_median",
        version=1,
        function=ranking.mid_rank,
        kind="scores",
        lower=1,
        upper=inf,
        higher_is_better=False,
        chance=lambda n_candidates: (n_candidates + 1) / 2,
        aggregate="median",
        ties=_MID_RANKS,
        definition="Median over items of the target's rank among the candidates, 1 is best.",
        source="standard retrieval metric",
    ),
    Metric(
        name="rank_accuracy",
        version=1,
        function=ranking.rank_accuracy,
        kind="scores",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_half,
        ties=_MID_RANKS,
        definition="1 - (rank - 1) / (N - 1) with N the candidates of the fold.",
        source="rank accuracy of Pereira et al. 2018, doi:10.1038/s41467-018-03068-4",
    ),
    Metric(
        name="rank_accuracy_all",
        version=1,
        function=ranking.rank_accuracy,
        kind="scores",
        lower=0,
        upper=1,
        higher_is_better=True,
        ties=_MID_RANKS,
        definition="rank_accuracy among every stimulus of the data set, also those outside the fold. No closed-form "
        "chance: candidates seen in training are not exchangeable with held-out ones; see the `mean` control.",
        source="rank accuracy of Pereira et al. 2018, doi:10.1038/s41467-018-03068-4, over all candidates",
    ),
    Metric(
        name="mrr",
        version=1,
        function=ranking.mrr,
        kind="scores",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=lambda n_candidates: sum(1 / rank for rank in range(1, n_candidates + 1)) / n_candidates,
        ties=f"{_EXPECTED}: mean of 1 / rank over the tied ranks",
        definition="Mean reciprocal rank of the target among the candidates.",
        source="standard retrieval metric",
    ),
    Metric(
        name="cosine",
        version=1,
        function=vectors.cosine,
        kind="vectors",
        lower=-1,
        upper=1,
        higher_is_better=True,
        ties=_ZERO_VECTOR,
        degenerate=vectors.zero_items,
        definition="Cosine similarity of prediction and target.",
        source="standard",
    ),
    Metric(
        name="cosine_centred",
        version=1,
        function=vectors.cosine_centred,
        kind="vectors",
        lower=-1,
        upper=1,
        higher_is_better=True,
        ties=f"{_ZERO_VECTOR}; so is one within 1e-6 of the centre, relative to the largest magnitude",
        degenerate=vectors.zero_items,
        centred=True,
        definition="Cosine similarity after the mean of the training targets is taken from prediction and target.",
        source="standard",
    ),
    Metric(
        name="r2",
        version=1,
        function=vectors.r2,
        kind="dimensions",
        lower=-inf,
        upper=1,
        higher_is_better=True,
        ties="a target of zero variance gives 1 where predicted exactly, else 0; counted in the record",
        degenerate=vectors.zero_variance_targets,
        definition="1 - residual sum of squares / total sum of squares about the mean of the test targets, per "
        "dimension; uniform mean over dimensions.",
        source="scikit-learn's r2_score",
    ),
    Metric(
        name="l1",
        version=1,
        function=vectors.l1,
        kind="vectors",
        lower=0,
        upper=inf,
        higher_is_better=False,
        definition="Mean absolute difference over the dimensions of a vector.",
        source="standard",
    ),
    Metric(
        name="pearson_dim",
        version=1,
        function=vectors.pearson_dim,
        kind="dimensions",
        lower=-1,
        upper=1,
        higher_is_better=True,
        ties=_ZERO_VARIANCE,
        degenerate=vectors.zero_variance_dimensions,
        definition="Pearson correlation of prediction and target over the test items, per dimension or voxel.",
        source="standard encoding-model score, as in Naselaris et al. 2011, doi:10.1016/j.neuroimage.2010.07.073",
    ),
    Metric(
        name="collapse",
        version=1,
        function=vectors.collapse,
        kind="set",
        lower=-1,
        upper=1,
        higher_is_better=None,
        ties=_ZERO_VECTOR,
        degenerate=vectors.zero_predictions,
        definition="Mean cosine similarity over all pairs of predictions; near 1 the predictions are all alike.",
        source="collapse monitor of this benchmark",
    ),
    Metric(
        name="pixcorr",
        version=1,
        function=images.pixcorr,
        kind="images",
        lower=-1,
        upper=1,
        higher_is_better=True,
        ties="correlation with a picture of one constant value is 0, counted in the record",
        degenerate=images.constant_pictures,
        definition="Pearson correlation over all pixel values (height x width x channels) of picture and "
        "reconstruction, at the size of the data set.",
        source="PixCorr of Ozcelik & VanRullen 2023, doi:10.1038/s41598-023-42891-8",
    ),
    Metric(
        name="ssim",
        version=1,
        function=images.ssim,
        kind="images",
        lower=-1,
        upper=1,
        higher_is_better=True,
        definition="Structural similarity of the grey pictures: 2-D Gaussian window (sigma 1.5, 11 x 11), K1 .01, "
        "K2 .03, data range 1, population covariance, borders of 5 pixels left out; pictures with a side below 11 "
        "pixels are enlarged by repeating pixels.",
        source="Wang et al. 2004, doi:10.1109/TIP.2003.819861, with scikit-image's definitions",
    ),
)

_SAME_MODEL = "same model as guide: methods are guided by this CLIP, so it is not impartial"
_BY_NAME = {metric.name: metric for metric in _ALL}
_FEATURES = (
    replace(
        _BY_NAME["two_way"],
        name="judge_two_way",
        features="judge",
        definition="Two-way identification of the reconstruction by the features of the judge, a network trained on "
        "the generated scenes' attributes and used for nothing but scoring.",
    ),
    Metric(
        name="attribute_accuracy",
        version=1,
        function=vectors.attribute_accuracy,
        kind="vectors",
        lower=0,
        upper=1,
        higher_is_better=True,
        features="judge-read",
        definition="Share of right attributes (background; shape, colour and size at every place that has an object in "
        "the scene or in the reconstruction) as the judge reads them off the reconstruction.",
        source="attribute read-out of this benchmark's generated scenes",
    ),
    replace(
        _BY_NAME["two_way"],
        name="clip_two_way",
        features="clip",
        note=_SAME_MODEL,
        definition="Two-way identification of the reconstruction by CLIP's pooled image embedding.",
    ),
    replace(
        _BY_NAME["cosine"],
        name="clip_similarity",
        features="clip",
        note=_SAME_MODEL,
        definition="Cosine similarity of CLIP's pooled image embeddings of picture and reconstruction.",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_ALL, *_FEATURES)}
