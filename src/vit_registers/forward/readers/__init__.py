"""Readers: what one forward pass feeds. Choosing readers chooses what is computed; nothing else is kept.

All arrays, and the readers that make them. Shapes are of one image: d channels; p patches, row-major; r registers; a
appended tokens; t tokens of the sequence ([CLS], registers, patches, appended tokens), s of them special (all but
patches); L blocks, n of them the last ones; H heads, M their mean and each of them; c classes. NN is the number of a
block, from 00.
Rows: ``all`` images; the ``dense`` ones of ``extraction.dense_images``; the first of these, whose ``maps`` are kept, or
in whose attention ``sinks`` are looked for. Projections can instead be ``native``: a row (d,) per patch of images at
their own sizes. Of models as they are only: ``specials``, ``specials_normed`` and ``cls_parts``; and ``train_patches``
and ``train_norms``, which are ``patches`` and ``norms`` of the ``train`` rows, ``extraction.train_dense_images`` many.

===================== ================ ============ ======= ===== =====================================================
array                 reader           shape        dtype   rows  unit and meaning
===================== ================ ============ ======= ===== =====================================================
``cls``               Tokens           (d,)         float32 all   channels after the final norm: [CLS]
``registers``         Tokens           (r, d)       float32 all   channels after the final norm: trained registers
``appended``          Tokens           (a, d)       float32 all   channels after the final norm: appended tokens
``patch_mean``        Tokens           (d,)         float32 all   channels after the final norm: mean of the patches
``logits``            OwnHead          (c,)         float32 all   logits of the model's own head
``cls_blocks``        ClsByBlock       (n, d)       float32 all   channels after the final norm: [CLS] of last blocks
``specials``          SpecialsByLayer  (L, s, d)    float32 all   channels of raw block outputs: special tokens
``specials_normed``   SpecialsByLayer  (s, d)       float32 all   channels the last attention takes: special tokens
``cls_parts``         ClsParts         (5, d)       float32 all   channels: addends of [CLS] after the last attention
``patches``           Patches          (p, d)       float16 dense channels after the final norm: patches
``patches_NN``        PatchesByLayer   (p, d)       float32 dense channels of the raw output of block NN: patches
``norms``             Norms            (L, t)       float32 dense L2 norm of raw block outputs
``neighbours``        NeighbourCosines (2, p)       float32 dense cosine of patch embeddings with those below and right
``embedding_norms``   EmbeddingNorms   (p,)         float32 dense L2 norm of patch embeddings, before positions
``attention``         AttentionRows    (L, s, t)    float16 dense share: from special tokens to all, mean of heads
``cls_attention_max`` AttentionRows    (L, t)       float16 dense share: from [CLS] to all, largest over heads
``attention_heads``   AttentionRows    (L, H, s, t) float16 dense share: from special tokens to all, of every head
``attention_columns`` AttentionRows    (L, t, s)    float16 dense share: from all tokens to special ones, mean of heads
``flow``              AttentionRows    (L, 3, 3)    float32 dense share: from and to [CLS], registers, patches
``patch_attention``   AttentionRows    (L, s)       float32 dense share: from patches to special tokens, mean of both
``attention_maps``    AttentionMaps    (L, H, t, t) float16 maps  share: whole softmax maps
``sink_shares``       AttentionSinks   (L, M)       float32 sinks share: mean attention on the most attended token
``sink_tokens``       AttentionSinks   (L, M)       int32   sinks token: the most attended one, of all heads and of each
``sink_medians``      AttentionSinks   (L,)         float32 sinks share: mean attention on the median token
``sink_queries``      AttentionSinks   (L, H)       float32 sinks share: of queries that give it half or more
``sink_ratios``       AttentionSinks   (L, H)       float32 sinks ratio: norm of what it writes over that of others
``sink_ranks``        AttentionSinks   (L, H)       float32 sinks stable rank of what a head with a sink writes
``q_NN``              Projections      (p, d)       float16 dense queries' channels at block NN, heads concatenated
``k_NN``              Projections      (p, d)       float16 dense keys' channels at block NN, heads concatenated
``v_NN``              Projections      (p, d)       float16 dense values' channels at block NN, heads concatenated
===================== ================ ============ ======= ===== =====================================================
"""
