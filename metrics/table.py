"""The metrics by name, with what must be known to read their numbers."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from metrics import captions, identification, images, protocol_table, ranking, retrieval, vectors
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
        gallery="published-all",
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
        ties=protocol_table.PIXEL_TIES,
        degenerate=images.constant_pictures,
        definition="Pearson correlation over all pixel values (height x width x channels) of picture and "
        "reconstruction, at the size of the data set's pictures (resized to it bicubic, antialiased).",
        source="PixCorr of Ozcelik & VanRullen 2023, doi:10.1038/s41598-023-42891-8",
    ),
    Metric(
        name="ssim",
        version=2,  # float64 where float32 was off by up to 5e-5
        function=images.ssim,
        kind="images",
        lower=-1,
        upper=1,
        higher_is_better=True,
        definition="Structural similarity of the grey pictures at the size of the data set's (resized to it bicubic, "
        "antialiased): 2-D Gaussian window (sigma 1.5, 11 x 11), K1 .01, K2 .03, data range 1, population covariance, "
        "borders of 5 pixels left out; pictures with a side below 11 pixels are enlarged by repeating pixels.",
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
    *protocol_table.records(_BY_NAME["two_way"], _BY_NAME["cosine_centred"], _SAME_MODEL),
)

_MINDEYE = "MindEye, Scotti et al. 2023, arXiv:2305.18274: top-1 in draws of 300 test images"
_POOLS = (
    f"Pools: {retrieval.DRAWS} fixed draws (more above 9,000 images) of min({retrieval.POOL}, N) of the N test "
    "images, each image in equally many up to one; one pool of all where N is no more."
)
_CAPTION_CHANCE = (
    "Chance is for independent scores (stated here for 5 captions an image); an image's captions are alike, so that a "
    "constant prediction finds them together and ranks below it."
)


def _pool_chance(n_candidates: int) -> float:
    return 1 / min(retrieval.POOL, n_candidates)


def _captions_topk(name: str, k: int) -> Metric:
    return replace(
        _BY_NAME[f"top{k}"],
        name=name,
        kind="texts",
        chance=lambda n_captions, n_own=5: retrieval.topk_chance(n_captions, k, n_own),
        definition=f"Share of items with a caption of their own image among the {k} nearest captions (cosine) of all "
        f"test images' captions; the image's other captions are not wrong answers. {_CAPTION_CHANCE}",
        source="image-to-text retrieval as in Karpathy & Fei-Fei 2015, doi:10.1109/CVPR.2015.7298932",
    )


def _corpus(name: str, definition: str, source: str, upper: float = 1, lacks: str = "") -> Metric:
    return Metric(
        name=name,
        version=1,
        function=getattr(captions, name),
        kind="captions",
        lower=0,
        upper=upper,
        higher_is_better=True,
        lacks=lacks,
        definition=f"{definition} Corpus score over all references of every item, words as the Penn Treebank splits "
        "them, lower case, punctuation dropped.",
        source=f"{source}, as in the COCO caption toolkit, Chen et al. 2015, arXiv:1504.00325",
    )


_RETRIEVAL = (
    Metric(
        name="image_retrieval",
        version=1,
        function=retrieval.image_retrieval,
        kind="pools",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_pool_chance,
        ties=f"{_EXPECTED}; cosine with a vector of zeros is 0",
        pool=retrieval.POOL,
        definition="For every prediction the images of a pool are ranked by cosine: share of predictions whose own "
        f"image is first. {_POOLS}",
        source=_MINDEYE,
    ),
    Metric(
        name="brain_retrieval",
        version=1,
        function=retrieval.brain_retrieval,
        kind="pools",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_pool_chance,
        ties=f"{_EXPECTED}; cosine with a vector of zeros is 0",
        pool=retrieval.POOL,
        definition="For every image the predictions of a pool are ranked by cosine: share of images for which a "
        f"prediction of their own is first. {_POOLS}",
        source=_MINDEYE,
    ),
    replace(
        _BY_NAME["top5"],
        name="category_recall",
        kind="categories",
        definition="Top-5 recall within each category of test stimuli, mean over categories (a rare category counts "
        "as much as a frequent one).",
        source="macro-averaged recall",
    ),
    Metric(
        name="top1_csls",
        version=1,
        function=retrieval.top1_csls,
        kind="scores",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_BY_NAME["top1"].chance,
        ties=_BY_NAME["top1"].ties,
        definition="top1 with scores corrected for hubs (CSLS, k = 10): twice the similarity less the candidate's mean "
        "similarity with the 10 predictions nearest to it. Looks at all predictions of the fold together.",
        source="Conneau et al. 2018, arXiv:1710.04087",
    ),
    Metric(
        name="top5_csls",
        version=1,
        function=retrieval.top5_csls,
        kind="scores",
        lower=0,
        upper=1,
        higher_is_better=True,
        chance=_BY_NAME["top5"].chance,
        ties=_BY_NAME["top5"].ties,
        definition="top5 with scores corrected for hubs (CSLS, k = 10), see top1_csls.",
        source="Conneau et al. 2018, arXiv:1710.04087",
    ),
    Metric(
        name="hubness",
        version=1,
        function=retrieval.hubness,
        kind="hubs",
        lower=-inf,
        upper=inf,
        higher_is_better=None,
        ties=f"{_EXPECTED}; 0 where all candidates occur equally often",
        definition="Skewness over the gallery of how often a candidate is among the 10 nearest of a prediction: near 0 "
        "without hubs, large where a few candidates are retrieved for everything.",
        source="Radovanovic et al. 2010, JMLR 11:2487",
    ),
    _captions_topk("caption_top1", 1),
    _captions_topk("caption_top5", 5),
    replace(
        _BY_NAME["rank_median"],
        name="caption_rank_median",
        kind="texts",
        chance=retrieval.first_rank_median,
        definition="Median over items of the rank of the first caption of their own image among all test images' "
        f"captions, 1 is best. {_CAPTION_CHANCE}",
        source="image-to-text retrieval as in Karpathy & Fei-Fei 2015, doi:10.1109/CVPR.2015.7298932",
    ),
    *(
        replace(
            _BY_NAME[name],
            name=f"{name}[published-all]",
            gallery="published-all",
            protocol="published-all",
            chance=None,
            note="gallery of all stimuli of the data set, training stimuli included: for comparison only, never ranked",
            definition=f"{name} with all stimuli of the data set as candidates, those of the training side included. "
            "No closed-form chance: candidates seen in training are not exchangeable with held-out ones.",
        )
        for name in ("top1", "top5", "rank_median")
    ),
)

_CAPTIONS = (
    _corpus(
        "bleu1",
        "BLEU of single words: clipped precision times the brevity penalty.",
        "Papineni et al. 2002, doi:10.3115/1073083.1073135",
    ),
    _corpus(
        "bleu4",
        "BLEU: geometric mean of the clipped precisions of 1 to 4 words times the brevity penalty.",
        "Papineni et al. 2002, doi:10.3115/1073083.1073135",
    ),
    _corpus(
        "rouge_l",
        "ROUGE-L: F-measure (beta 1.2) of the longest common subsequence, best precision and best recall over the "
        "references.",
        "Lin 2004, ACL W04-1013",
    ),
    _corpus(
        "meteor",
        "METEOR 1.5, which is a Java program: never computed here.",
        "Denkowski & Lavie 2014, ACL W14-3348",
        lacks="Java",
    ),
    _corpus(
        "cider",
        "CIDEr-D: clipped tf-idf similarity of n-grams of 1 to 4 words with a penalty on the difference in length, "
        "times 10.",
        "Vedantam et al. 2015, doi:10.1109/CVPR.2015.7299087",
        upper=10,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_ALL, *_RETRIEVAL, *_CAPTIONS, *_FEATURES)}
