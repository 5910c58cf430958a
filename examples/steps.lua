-- What comes next?  A recurrent network called word by word, and the same in a Sequencer.
require 'rnn'
torch.manualSeed(1)

local WORDS = {'row', 'your', 'boat'}             -- numbered from 1
local SIZE = 8                                    -- of the state
local SONG = {1, 1, 1, 2, 3, 1, 1, 1, 2, 3, 1}    -- row row row your boat row ...
local inputs, targets = {}, {}
for t = 1, #SONG - 1 do                           -- batches of one word
   inputs[t], targets[t] = torch.LongTensor{SONG[t]}, torch.LongTensor{SONG[t + 1]}
end

-- h' = sigmoid(embedding of the word + W h + b), from the table {word, h}
local function network(words, size)
   local transition = nn.Sequential()
      :add(nn.ParallelTable():add(nn.LookupTable(words, size)):add(nn.Linear(size, size)))
      :add(nn.CAddTable())
      :add(nn.Sigmoid())
   return nn.Sequential()
      :add(nn.Recurrence(transition, size, 0))    -- 0: a sample of a batch is a number
      :add(nn.Linear(size, words))
      :add(nn.LogSoftMax())
end

local function trainStepByStep(rnn, inputs, targets, rate)
   local criterion, outputs, loss = nn.ClassNLLCriterion(), {}, 0
   for t = 1, #inputs do
      outputs[t] = rnn:forward(inputs[t])
      loss = loss + criterion:forward(outputs[t], targets[t])
   end
   for t = #inputs, 1, -1 do
      rnn:backward(inputs[t], criterion:backward(outputs[t], targets[t]))
   end
   rnn:updateParameters(rate)
   rnn:zeroGradParameters()
   rnn:forget()                                   -- the next forward is step 1
   return loss
end

local function trainSequence(rnn, inputs, targets, rate)
   local criterion = nn.SequencerCriterion(nn.ClassNLLCriterion())
   local outputs = rnn:forward(inputs)
   local loss = criterion:forward(outputs, targets)
   rnn:backward(inputs, criterion:backward(outputs, targets))
   rnn:updateParameters(rate)
   rnn:zeroGradParameters()
   return loss
end

local net = network(#WORDS, SIZE)
net:zeroGradParameters()
local sequencer = nn.Sequencer(net:clone())
local recursor = nn.Recursor(net, #inputs)        -- as many steps back at most
print('loss   step by step   in a Sequencer')
for i = 1, 120 do
   local byStep = trainStepByStep(recursor, inputs, targets, 0.3)
   local atOnce = trainSequence(sequencer, inputs, targets, 0.3)
   if i % 20 == 0 then print(string.format('%4d   %12.6f   %14.6f', i, byStep, atOnce)) end
end

print('word -> next   probability   state')
local recurrence = net:get(1)
for t = 1, 5 do
   local probabilities = recursor:forward(inputs[t]):clone():exp()
   local word, next = SONG[t], SONG[t + 1]
   local state = recurrence.outputs[t][1]
   print(string.format('%-4s -> %-4s   %11.3f   %.2f %.2f %.2f ...',
      WORDS[word], WORDS[next], probabilities[1][next], state[1], state[2], state[3]))
end

recursor:evaluate()
recursor:forget()
local word, sung = torch.LongTensor{1}, {}
for t = 1, 15 do
   sung[t] = WORDS[word[1]]
   local _, best = recursor:forward(word):max(2)
   word = best[1]
end
print(table.concat(sung, ' '))
