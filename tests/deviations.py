"""Every golden check that is left out, with the reason.

The keys are "area/file/case" for all checks of a case, "area/file/case:check" for one of them, and
"area/file:check" for one check of all cases.
"""

_OLD_FIELDS = "old fields get their new form, of which the text is, when a file is loaded, not at a forward"
_DROPOUT = "the fourth argument of Dropout has another meaning in rnn than in nn; here it has that of nn"
_BY_HAND = "written by hand: Torch7 itself would save it with other bytes, as we do"
_OWN_LAYOUT = "torchfile takes the class for one that writes its fields, and misreads what follows"
_NOT_ITS_SLOPE = "its gradient is another one on purpose"
_NO_FUNCTION = "its output does not depend on its input"
_INDICES = "its input are indices"
_SCRATCH = "in Torch7 the conversion to another type adds a scratch field, which nothing reads here"
_KEEPS_TYPE = "not to be converted is what it is for"
_ROUNDED = "it computes in 32 bits and gives 64, which would have to be exact; tested in test_nn_wrappers.py"
_OVERWRITTEN = "Torch7 writes over the gradient of the last step after a sequence of another length"
_FLAT = (
    "a cubic polynomial through a parabola divides noise by noise: Torch7 itself goes elsewhere when the "
    "gradient changes in its last bit"
)
_TO_ANOTHER_TYPE = "its gradInput has another type than its input, with which no graph can go on"

_NAMED = "the case names arguments that are tensors or modules; tested in test_dpnn_layers.py"
_OTHERS = "it keeps the type of the module that it rewards, which is part of a network"
_NOISE = "the probabilities of the noise keep their type"
_CONSTRUCTOR = "constructor_sets_the_fields_of_torch7"

DEVIATIONS: dict[str, str] = {
    f"dpnn/Inception:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/NCEModule:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/PCAColorTransform:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/ReinforceNormal/full_stdev:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/ReinforceNormal/tensor_stdev:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/SimpleColorTransform:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/SpatialFeatNormalization:{_CONSTRUCTOR}": _NAMED,
    f"dpnn/SpatialRegionDropout/online:{_CONSTRUCTOR}": "the case does not show its argument",
    "dpnn/BinaryClassReward:single_precision": _OTHERS,
    "dpnn/VRClassReward:single_precision": _OTHERS,
    "dpnn/NCEModule/evaluate_logsoftmax:single_precision": _NOISE,
    "dpnn/NCEModule/evaluate_softmax:single_precision": _NOISE,
    "nn/BCECriterion/saturated:slope_of_a_loss": "its input is at the end of the range",
    "nn/Container:slope": _NO_FUNCTION,
    "nn/DontCast/castin_castout:slope": "it computes in 32 bits",
    "nn/GradientReversal:slope": _NOT_ITS_SLOPE,
    "nn/Kmeans:slope": _NOT_ITS_SLOPE,
    "nn/IndexLinear/normalize_train:cleared": "it divides by the largest values that it has seen so far",
    "nn/L1Penalty:slope": _NOT_ITS_SLOPE,
    "nn/LookupTable/double_input:slope": _INDICES,
    "nn/LookupTable/padding:slope": _NOT_ITS_SLOPE,
    "nn/LookupTable/scaleGradByFreq:slope": _NOT_ITS_SLOPE,
    "nn/Module:slope": _NO_FUNCTION,
    "nn/OneHot:slope": _INDICES,
    "nn/PairwiseDistance/batch_p3:slope": "Torch7 adds a small number to the distance in its gradient only",
    "nn/WeightNorm/evaluate:slope": "its weight is made anew from v and g in training only",
    "nn/ZeroGrad:slope": _NOT_ITS_SLOPE,
    "nn_module/parameters/weightnorm:parameters": "the gradients are from before Torch7 cloned the module, "
    "which fills gradV with the weight",
    "serialization/index_from_100:saved_again_it_has_the_same_bytes": _BY_HAND,
    "serialization/index_unordered:saved_again_it_has_the_same_bytes": _BY_HAND,
    "serialization/noversion_mixed:saved_again_it_has_the_same_bytes": _BY_HAND,
    "serialization/trailing_bytes:saved_again_it_has_the_same_bytes": _BY_HAND,
    "serialization/big_endian_as_little:malformed": "a valid file; its byte order is found",
    "serialization/dataparallel:from_torchfile": _OWN_LAYOUT,
    "serialization/nn_gpu_module:from_torchfile": _OWN_LAYOUT,
    "nn/DepthConcat/second_scale:separate_backward_calls": "Torch7's backward forgets the scale of the data, "
    "its accGradParameters does not",
    "nn/DontCast/after_float:single_precision": _KEEPS_TYPE,
    "nn/DontCast/after_float:cuda": _KEEPS_TYPE,
    "nn/DontCast/no_cast:single_precision": _KEEPS_TYPE,
    "nn/DontCast/no_cast:cuda": _KEEPS_TYPE,
    "nn/DontCast/castin_castout:cuda": _KEEPS_TYPE,
    "nn/DontCast/castin_castout:forward_and_backward": _ROUNDED,
    "nn/DontCast/castin_castout:separate_backward_calls": _ROUNDED,
    "nn/DontCast/castin_castout:inside_a_container": _TO_ANOTHER_TYPE,
    "nn/BCECriterion/saturated:native_form": "torch.nn.BCELoss bounds the logarithms otherwise",
    "nn/CosineEmbeddingCriterion/float_type:constructor_sets_the_fields_of_torch7": _SCRATCH,
    "nn/SpatialConvolution/old_padding_field:text": _OLD_FIELDS,
    "models/old_conv_no_pad/old_conv_no_pad:text": _OLD_FIELDS,
    "models/old_conv_padding/old_conv_padding:text": _OLD_FIELDS,
    "nn/Copy/dontCast:single_precision": "the case of a module that keeps its types",
    "nn/Copy/dontCast:cuda": "the case of a module that keeps its types",
    "models/old_convmm_padding/old_convmm_padding:text": _OLD_FIELDS,
    "optim/cg/defaults_quadratic:step 2": _FLAT,
    "optim/cg/maxEval_quadratic:step 1": _FLAT,
    "optim/cg/maxIter5_quadratic:step 3": _FLAT,
    "rnn/Dropout/busy:constructor_sets_the_fields_of_torch7": _DROPOUT,
    "rnn/Dropout/inplace:constructor_sets_the_fields_of_torch7": _DROPOUT,
    "rnn/Dropout/lazy:constructor_sets_the_fields_of_torch7": _DROPOUT,
    "rnn/Dropout/lazy_steps:constructor_sets_the_fields_of_torch7": _DROPOUT,
    "rnn/Dropout/v1:constructor_sets_the_fields_of_torch7": _DROPOUT,
    "rnn/Dropout/lazy_steps:rounds": "its second round draws masks without a seed: they depend on what the "
    "generator script drew in between",
    "rnn/BiSequencerLM/fastlstm_online:rounds": _OVERWRITTEN,
    "rnn/BiSequencerLM/lstm:rounds": _OVERWRITTEN,
    "rnn/BiSequencerLM/sequencer_stack:rounds": _OVERWRITTEN,
    "rnn/BiSequencerLM/two_modules_add:rounds": _OVERWRITTEN,
    "rnn/LookupTableMaskZero:slope": _INDICES,
    "rnn/NormStabilizer/in_sequencer:constructor_sets_the_fields_of_torch7": "the arguments in the case are "
    "those of the module inside",
    "rnn/RecurrentAttention/recurrent_glimpse:evaluation_of_steps": "in evaluation, all steps but the first "
    "leave their output in one tensor of Torch7",
    "rnn/Sequencer/nested_sequencer:rounds": "in Torch7 the second outer step overwrites the output tensors "
    "of the first one, which share their memory with it",
}

# Classes that have no form in PyTorch yet, or none at all
UNCONVERTIBLE: dict[str, str] = {
    "nn.Container": "an abstract class",
    "nn.CriterionTable": "a loss, whose output is a number",
    "nn.Module": "an abstract class",
    "nn.RecurrentAttention": "it chooses at random where to look",
    "nn.SpatialMaxUnpooling": "alone, without the pooling to which it belongs",
    "nn.VolumetricMaxUnpooling": "alone, without the pooling to which it belongs",
    "nn.NCEModule": "it draws noise in evaluation, too, unless `normalized` is set",
    "nn.ReinforceBernoulli": "it draws in evaluation, too",
    "nn.ReinforceCategorical": "it draws in evaluation, too",
    "nn.ReinforceNormal": "it draws in evaluation, too",
}

# Classes with which the gradients of a network have nothing to be compared with
_IN_TRAINING_ONLY = "Torch7 refuses a backward in evaluation"
_REWARDED = "Torch7 goes back with a reward, not with a gradient"
NO_BACKWARD: dict[str, str] = {
    "nn.ArgMax": "its output are indices",
    "nn.MapTable": "not sharing its parameters, it has those of each place from the first forward on",
    "nn.OneHot": _INDICES,
    "nn.PCAColorTransform": _IN_TRAINING_ONLY,
    "nn.ReinforceBernoulli": _REWARDED,
    "nn.ReinforceCategorical": _REWARDED,
    "nn.ReinforceGamma": _REWARDED,
    "nn.ReinforceNormal": _REWARDED,
    "nn.SimpleColorTransform": _IN_TRAINING_ONLY,
    "nn.SpatialDropout": _IN_TRAINING_ONLY,
    "nn.SpatialRegionDropout": _IN_TRAINING_ONLY,
    "nn.TotalDropout": _IN_TRAINING_ONLY,
    "nn.VolumetricDropout": _IN_TRAINING_ONLY,
    "nn.WhiteNoise": _IN_TRAINING_ONLY,
}

# Classes that a graph of ONNX cannot express; docs/formats.md has the same table
NOT_ONNX: dict[str, str] = {
    "nn.SpatialFractionalMaxPooling": "the windows depend on random numbers",
    "nn.VolumetricFractionalMaxPooling": "the windows depend on random numbers",
}

# Cases of which no run is recorded
NOT_RECORDED: dict[str, str] = {
    "nn/DontCast/castin_castout": "it computes in 32 bits and gives 64",
}
